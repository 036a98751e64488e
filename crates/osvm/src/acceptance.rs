//! What the user accepts of a server: its image, the packages in it, its tools. The daemon holds servers against it.

use osvm_daemon::api::{ListRequest, Listing as What, LookRequest};
use osvm_daemon::images::{ImageInfo, Images, Users};
use osvm_daemon::lock::{self, LockFile, LockFileError, Tools as Listed, ToolsError};
use osvm_spec::config::Entry;
use osvm_spec::lock::{Difference, Line, Listing, Locked, Mark, Now, Tools};
use osvm_spec::{Digest, Overrides, Secrets, Server, ServerName};

use crate::error::{CliError, Kind};
use crate::progress::Progress;
use crate::{daemon, environment, images, output, secrets, terminal};

pub(crate) fn lock_file() -> Result<LockFile, CliError> {
    Ok(LockFile::of(&environment::home()?))
}

/// Of a server that was registered just now, if strangers have made it: what it consists of, and, as far as it can be
/// started, its tools. It is registered however that ends.
pub(crate) fn begin(entry: &Entry) -> Result<(), CliError> {
    // Of another of that name, which was taken off the register by hand.
    forget(&entry.id)?;
    let server = images::resolve(entry)?;
    let image = server.image.as_ref().filter(|image| server.locked && images::is_brought(image));
    let images = Images::open(&environment::home()?)?;
    let Some(digest) = image.and_then(|image| images.of(image)) else { return Ok(()) };
    accept(&entry.id, images.inspect(&digest, &Users::default())?, Tools::Pending)?;
    if let Err(error) = first_listing(entry) {
        let (name, why) = (&entry.id, error.message());
        output::warning(format_args!(
            "{name} was not started: {why}; the tools it lists when it first starts count as accepted"
        ));
    }
    Ok(())
}

/// Starts it: the daemon accepts what it sees first.
fn first_listing(entry: &Entry) -> Result<(), CliError> {
    let secrets = secrets::gather(&entry.secrets)?;
    let _progress = Progress::start(format!("starting {}", entry.id));
    daemon::with(async move |client| {
        let request = ListRequest { what: What::Tools, overrides: Overrides::default(), secrets };
        Ok(client.list(&entry.id, &request).await.map(drop)?)
    })
}

/// Shows what is not as it was accepted, and asks: of the server as it is in this image. `act` is what the user has
/// typed.
pub(crate) fn review(
    act: &str,
    server: &Server,
    digest: &Digest,
    agreed: bool,
) -> Result<(), CliError> {
    let name = &server.name;
    let image = Images::open(&environment::home()?)?.inspect(digest, &Users::default())?;
    let Some(locked) = lock_file()?.of_server(name)? else {
        let tools = look(name, digest, false)?;
        return accept(name, image, Tools::Known(tools));
    };
    let is_new = locked.image != *digest;
    let tools = match look(name, digest, is_new) {
        Err(error) if is_new => {
            let why = error.message();
            output::warning(format_args!(
                "its tools can't be seen before it was accepted, since it does not start with nothing: {why}"
            ));
            None
        }
        looked => Some(looked?),
    };
    let listing = tools.as_ref().map_or(Listing::Unknown, Listing::Whole);
    let now = Now { image: digest, packages: &image.packages, tools: listing };
    let differences = locked.differences(&now);
    if differences.is_empty() && locked.tools != Tools::Pending {
        return output::line(format_args!("{name} is as it was accepted"));
    }
    show(&differences)?;
    if !differences.is_empty() {
        agree(act, name, agreed)?;
    }
    accept(name, image, tools.map_or(Tools::Pending, Tools::Known))
}

/// The tools as they are; `confined` is with nothing of the user's.
fn look(name: &ServerName, image: &Digest, confined: bool) -> Result<Listed, CliError> {
    let secrets = if confined { Secrets::default() } else { secrets::of(name, &[])? };
    let request = LookRequest { image: image.clone(), confined, secrets };
    let _progress = Progress::start(format!("looking at the tools of {name}"));
    let seen = daemon::with(async move |client| Ok(client.look(name, &request).await?))?;
    Ok(lock::tools(seen.items.iter().map(|tool| tool.get()))?)
}

fn show(differences: &[Difference]) -> Result<(), CliError> {
    let lines = differences.iter().flat_map(Difference::lines);
    output::text(&lines.map(|line| shown(&line)).collect::<String>())
}

fn shown(Line { mark, text }: &Line) -> String {
    let paint = |text: &str, colour| output::paint(text, colour, output::is_terminal());
    match mark {
        Mark::Title => format!("{}\n", paint(text, output::CYAN)),
        Mark::Same => format!("    {text}\n"),
        Mark::Removed => format!("  {}\n", paint(&format!("- {text}"), output::RED)),
        Mark::Added => format!("  {}\n", paint(&format!("+ {text}"), output::GREEN)),
    }
}

fn agree(act: &str, name: &ServerName, agreed: bool) -> Result<(), CliError> {
    if agreed {
        return Ok(());
    }
    if !terminal::is_attended() {
        let message = format!("nobody is there to accept what has changed of {name}");
        let hint = format!("osvm mcp {act} {name} --yes");
        return Err(CliError::new(Kind::Refused, message).hint(hint));
    }
    match terminal::agrees(&format!("accept this of {name}?"))? {
        true => Ok(()),
        false => {
            let message = format!("what has changed of {name} was not accepted");
            Err(CliError::new(Kind::Refused, message))
        }
    }
}

fn accept(name: &ServerName, image: ImageInfo, tools: Tools) -> Result<(), CliError> {
    let ImageInfo { digest, origin, packages, .. } = image;
    let locked = Locked { image: digest, origin, packages, tools };
    Ok(lock_file()?.edit(|lock| drop(lock.servers.insert(name.clone(), locked)))?)
}

/// Of a server that is registered no more.
pub(crate) fn forget(name: &ServerName) -> Result<(), CliError> {
    let file = lock_file()?;
    if file.of_server(name)?.is_some() {
        file.edit(|lock| drop(lock.servers.remove(name)))?;
    }
    Ok(())
}

impl From<LockFileError> for CliError {
    fn from(error: LockFileError) -> Self {
        match error {
            LockFileError::File(error) => error.into(),
            LockFileError::Content { .. } => {
                let message = format!("what was accepted is not known: {error}");
                Self::new(Kind::Refused, message)
            }
        }
    }
}

impl From<ToolsError> for CliError {
    fn from(error: ToolsError) -> Self {
        Self::failed(format!("the server's tools can't be held against others: {error}"))
    }
}
