//! Images that a command names or needs: read, made, brought.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use osvm_daemon::api::ApiError;
use osvm_daemon::builder::{Builder, News, Say};
use osvm_daemon::bundles::is_bundle;
use osvm_daemon::images::{Images, Step, is_made};
use osvm_daemon::local::is_server;
use osvm_spec::config::Entry;
use osvm_spec::{Config, Digest, ImageRef, Overrides, Reference, Server, ServerName};

use crate::config_file::ConfigFile;
use crate::error::CliError;
use crate::output::size;
use crate::progress::{Pace, Progress, span};
use crate::{acceptance, daemon, environment};

/// What a flag says; its paths are seen from the current folder.
pub(crate) fn reference(text: &str) -> Result<ImageRef, String> {
    let hinted =
        |hint: Option<String>| hint.map(|hint| format!("; try {hint}")).unwrap_or_default();
    let image: ImageRef = text
        .parse()
        .map_err(|error: osvm_spec::ImageRefError| format!("{error}{}", hinted(error.hint())))?;
    match image {
        ImageRef::Registry(_) if Path::new(text).exists() => {
            let hint = hinted(Some(format!("--image ./{text}")));
            Err(format!(
                "{text} would be pulled from a registry, and there is a file of that name here{hint}"
            ))
        }
        image => Ok(image),
    }
}

/// The same with paths from the root.
pub(crate) fn absolute(image: ImageRef) -> Result<ImageRef, CliError> {
    match image {
        ImageRef::Path(path) if path.starts_with('~') => {
            Ok(ImageRef::at(&environment::expand(&path)?))
        }
        ImageRef::Path(path) => Ok(ImageRef::at(&environment::absolute(path.as_ref())?)),
        image => Ok(image),
    }
}

pub(crate) fn path(image: &ImageRef) -> Option<&String> {
    match image {
        ImageRef::Path(path) => Some(path),
        _ => None,
    }
}

/// Of a bundle alone.
pub(crate) fn bundle(image: &ImageRef) -> Option<&Path> {
    path(image).map(Path::new).filter(|path| is_bundle(path))
}

/// Of a program or a project alone.
pub(crate) fn local(image: &ImageRef) -> Option<&Path> {
    path(image).map(Path::new).filter(|path| is_server(path))
}

/// Makes or brings the image of a server that is about to be started, unless it is here.
pub(crate) fn ensure(name: &ServerName, over: &Overrides) -> Result<(), CliError> {
    let config = ConfigFile::open()?.current()?;
    match environment::resolve(&config, name, over)? {
        Ok(server) => {
            // The one that was accepted will do, whatever its reference stands for by now.
            let images = Images::open(&environment::home()?)?;
            match images.accepted(&acceptance::lock_file()?, &server)? {
                Some(_) => Ok(()),
                None => ensure_image(server.image.as_ref()),
            }
        }
        // What may not run is told by whoever is asked to run it.
        Err(_) => Ok(()),
    }
}

/// The same for a server that is not registered yet.
pub(crate) fn ensure_entry(entry: &Entry) -> Result<(), CliError> {
    ensure_image(resolve(entry)?.image.as_ref())
}

/// What a server would be if it were registered.
pub(crate) fn resolve(entry: &Entry) -> Result<Server, CliError> {
    let config = Config { servers: vec![entry.clone()], ..Config::default() };
    environment::resolve(&config, &entry.id, &Overrides::default())?.map_err(|refusal| {
        let error = CliError::usage(refusal.to_string());
        match refusal.hint() {
            Some(hint) => error.hint(hint),
            None => error,
        }
    })
}

fn ensure_image(image: Option<&ImageRef>) -> Result<(), CliError> {
    let Some(image) = image.filter(|image| is_brought(image)) else { return Ok(()) };
    let images = Images::open(&environment::home()?)?;
    match images.of(image) {
        Some(_) => Ok(()),
        None => make(&images, image, false).map(drop),
    }
}

/// The daemon makes images of other paths by itself, as it starts them.
pub(crate) fn is_brought(image: &ImageRef) -> bool {
    match image {
        ImageRef::Registry(_) | ImageRef::Package(_) => true,
        ImageRef::Path(path) => is_made(path.as_ref()),
        ImageRef::Digest(_) => false,
    }
}

/// The image that this stands for; made again if it is wanted `anew`.
pub(crate) fn make(images: &Images, image: &ImageRef, anew: bool) -> Result<Digest, CliError> {
    match image {
        ImageRef::Path(path) if is_made(path.as_ref()) => {
            let path = PathBuf::from(path);
            with_builder(image, anew, async move |builder| builder.bundle(&path).await)
        }
        ImageRef::Path(path) => build(images, path),
        ImageRef::Registry(reference) => pull(images, reference),
        ImageRef::Package(install) => {
            let install = install.clone();
            with_builder(image, anew, async move |builder| builder.build(&install).await)
        }
        ImageRef::Digest(digest) => Ok(images.find(&digest.to_string())?),
    }
}

fn build(images: &Images, path: &str) -> Result<Digest, CliError> {
    Ok(images.build(path.as_ref(), teller(format!("building the image of {path}")))?)
}

fn pull(images: &Images, reference: &Reference) -> Result<Digest, CliError> {
    let tell = teller(format!("pulling {reference}"));
    Ok(images.pull(reference, environment::registries::of_images(), tell)?)
}

fn with_builder(
    image: &ImageRef,
    anew: bool,
    build: impl AsyncFnOnce(Builder) -> Result<Digest, ApiError>,
) -> Result<Digest, CliError> {
    let (home, host) = (environment::home()?, environment::host());
    let registries = environment::registries::of_packages();
    let base = environment::base::of_builds(&ConfigFile::open()?.current()?.builds)?;
    let progress = Arc::new(Progress::start(format!("making the image of {image}")));
    let shown = Arc::clone(&progress);
    let say: Say = Arc::new(move |news| match news {
        News::Step(step) => shown.say(step),
        News::Warning(warning) => shown.warn(warning),
        News::Expected(all) => shown.expect(all),
    });
    daemon::with(async move |client| {
        let builder = Builder::new(&home, &host, client, registries, base, say)?.anew(anew);
        Ok(build(builder).await?)
    })
}

/// Shows the steps of what is done until it is dropped.
fn teller(what: String) -> impl FnMut(Step) {
    let progress = Progress::start(what.clone());
    let mut pace = Pace::default();
    move |step| progress.say(format!("{what}: {}", text(step, &mut pace)))
}

fn text(step: Step, pace: &mut Pace) -> String {
    let mut left = |done, total| match pace.left(done, total) {
        Some(left) => format!(", about {} left", span(left)),
        None => String::new(),
    };
    match step {
        Step::Waiting => "waiting for another build of it".to_owned(),
        Step::Pulling { done, total } => {
            format!("pulled {} of {}{}", size(done), size(total), left(done, total))
        }
        Step::Unpacking { done, total: Some(total) } => {
            format!("unpacked {} of {}{}", size(done), size(total), left(done, total))
        }
        Step::Unpacking { done, total: None } => format!("unpacked {}", size(done)),
        Step::Building => "writing the disk".to_owned(),
    }
}
