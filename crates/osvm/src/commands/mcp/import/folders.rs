//! Folders of the host among a server's arguments, and whether they are lent.

use std::io::{self, BufRead, IsTerminal};
use std::path::{Path, PathBuf};

use osvm_spec::{Access, FolderRule};

use super::plan::Plan;
use crate::error::CliError;
use crate::{environment, images, output};

/// How it is decided.
pub(super) struct Lending {
    access: Option<Access>,
    asks: bool,
}

/// Below the user's home: what no server is lent by the way. So is what lies in it.
const KEYS: [&str; 10] = [
    ".ssh",
    ".gnupg",
    ".aws",
    ".azure",
    ".kube",
    ".docker",
    ".osvm",
    ".config/gcloud",
    ".config/gh",
    ".password-store",
];

impl Lending {
    /// By this flag, or by asking, where that may be and somebody is there.
    pub(super) fn new(access: Option<Access>, may_ask: bool) -> Self {
        let is_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
        Self { access, asks: may_ask && is_terminal }
    }

    /// Whether the command line decides.
    pub(super) fn is_said(&self) -> bool {
        self.access.is_some()
    }

    /// Adds the folders that are agreed to, and a note for each that is not.
    pub(super) fn lend(&self, plan: &mut Plan, cwd: Option<&str>) -> Result<(), CliError> {
        let cwd = cwd.map(PathBuf::from).filter(|cwd| cwd.is_absolute());
        for path in named(plan)?.into_iter().chain(cwd.clone()) {
            if plan.entry.folders.iter().any(|lent| path.starts_with(&lent.guest)) {
                continue;
            }
            match self.agreed(plan, &path)? {
                Ok(rule) => plan.entry.folders.push(rule),
                Err(note) => plan.notes.push(note),
            }
        }
        let is_lent =
            |cwd: &&PathBuf| plan.entry.folders.iter().any(|lent| cwd.starts_with(&lent.guest));
        let cwd = cwd.as_ref().filter(is_lent).and_then(|cwd| cwd.to_str());
        plan.entry.working_dir = cwd.map(str::to_owned).or(plan.entry.working_dir.take());
        Ok(())
    }

    /// The folder as it is lent, at its own path, or what to say of it.
    fn agreed(&self, plan: &Plan, path: &Path) -> Result<Result<FolderRule, String>, CliError> {
        let shown = path.display();
        if path.is_file() {
            return Ok(Err(format!(
                "{shown} is a file of this host, which the server does not see; --mount {shown}:{shown} lends it"
            )));
        }
        if let Some(why) = too_much(path)? {
            return Ok(Err(format!(
                "{shown} is not lent by the way: {why}; --mount {shown}:{shown} lends it all the same"
            )));
        }
        let access = match self.access {
            None if self.asks => ask(plan, path)?.then_some(Access::Ro),
            access => access,
        };
        let rule = |access: Access| format!("{shown}:{shown}:{access}").parse::<FolderRule>();
        Ok(match access {
            Some(access) => rule(access).map_err(|error| error.to_string()),
            None => Err(format!(
                "{shown} is a folder of this host, which the server does not see; --mount {shown}:{shown} lends it, and so does import's --lend ro"
            )),
        })
    }
}

/// Files and folders of this host among the arguments of a package's program. A container's are its own.
fn named(plan: &Plan) -> Result<Vec<PathBuf>, CliError> {
    let server = images::resolve(&plan.entry)?;
    if !matches!(server.image, Some(osvm_spec::ImageRef::Package(_))) {
        return Ok(Vec::new());
    }
    let path = |arg: &String| {
        let value = arg.split_once('=').filter(|(flag, _)| flag.starts_with('-'));
        PathBuf::from(value.map_or(arg.as_str(), |(_, value)| value))
    };
    let mut paths: Vec<_> = server.args.iter().map(path).collect();
    paths.retain(|path| path.is_absolute() && path.exists());
    paths.dedup();
    Ok(paths)
}

/// Why a folder is more than an argument can mean.
fn too_much(path: &Path) -> Result<Option<&'static str>, CliError> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let (path, own) = (real(path), real(environment::home()?.root()));
    if path.parent().is_none() {
        return Ok(Some("it is everything"));
    }
    if own.starts_with(&path) || path.starts_with(&own) {
        return Ok(Some("osvm's own files are in it"));
    }
    let Some(home) = environment::user_home().map(|home| real(&home)) else { return Ok(None) };
    if home.starts_with(&path) {
        return Ok(Some("your whole home is in it"));
    }
    let keys = KEYS.iter().map(|keys| home.join(keys));
    let holds_keys = |keys: PathBuf| keys.starts_with(&path) && keys.exists();
    Ok(match keys.clone().any(|keys| path.starts_with(keys)) || keys.into_iter().any(holds_keys) {
        true => Some("keys are in it"),
        false => None,
    })
}

/// On a terminal, where no is the answer that needs no typing.
fn ask(plan: &Plan, path: &Path) -> Result<bool, CliError> {
    let question = format!("lend {} to {}, read-only? [y/N] ", path.display(), plan.entry.id);
    output::note(&output::safe(&question));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| CliError::failed(format!("can't read the answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
