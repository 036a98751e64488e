//! `osvm image`: what servers' images take on disk, and who uses them.

mod build;
mod inspect;
mod list;
mod prune;
mod pull;
mod remove;
mod verify;

use clap::Subcommand;
use osvm_daemon::api::ApiError;
use osvm_daemon::images::{Images, ImagesError, Users};
use osvm_daemon::lock::LockFile;
use osvm_spec::config::Entry;
use osvm_spec::{Digest, ImageRef, Isolation};

use crate::config_file::ConfigFile;
use crate::error::CliError;
use crate::{daemon, environment, images};

/// Make and look at servers' images, and remove what nobody uses
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Build(build::Args),
    Pull(pull::Args),
    List(list::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Remove(remove::Args),
    Prune(prune::Args),
}

pub(crate) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Build(args) => build::run(args),
        Command::Pull(args) => pull::run(args),
        Command::List(args) => list::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Remove(args) => remove::run(&args),
        Command::Prune(args) => prune::run(&args),
    }
}

fn open() -> Result<Images, CliError> {
    Ok(Images::open(&environment::home()?)?)
}

/// Registered servers, the default image, VMs, and what others are made in.
fn users(images: &Images) -> Result<Users, CliError> {
    let mut users = users_beside_builds(images)?;
    images.used_by_builds(&mut users);
    Ok(users)
}

fn users_beside_builds(images: &Images) -> Result<Users, CliError> {
    let (home, config) = (environment::home()?, ConfigFile::open()?.current()?);
    let mut users = Users::default();
    let default = config.microvm.rootfs_path.as_deref().map(environment::expand).transpose()?;
    let default = ImageRef::at(&default.unwrap_or_else(|| home.default_rootfs()));
    images.used(&default, "(default)".to_owned(), &mut users);
    for server in &config.servers {
        if let Some(image) = of_server(server) {
            images.used(&image, server.id.to_string(), &mut users);
        }
    }
    for (name, locked) in &LockFile::of(&home).read()?.servers {
        users.add(locked.image.clone(), name.to_string());
    }
    for vm in vms(&home)? {
        if let Ok(digest) = vm.image.parse::<Digest>() {
            users.add(digest, format!("VM {}", vm.name));
        }
    }
    Ok(users)
}

/// Nothing where it is the default. A server that may not run now has its image all the same.
fn of_server(server: &Entry) -> Option<ImageRef> {
    let runs = Entry { enabled: true, isolation: Isolation::Microvm, ..server.clone() };
    images::resolve(&runs).ok()?.image
}

/// Those of a daemon that runs.
fn vms(home: &osvm_daemon::Home) -> Result<Vec<osvm_daemon::api::VmStatus>, CliError> {
    use osvm_daemon::client::Client;
    daemon::run(async {
        match Client::find(home).await {
            Some(client) => Ok(client.vms().await?),
            None => Ok(Vec::new()),
        }
    })
}

impl From<ImagesError> for CliError {
    fn from(error: ImagesError) -> Self {
        ApiError::from(error).into()
    }
}

/// As many digits as tell images apart.
fn short(digest: &Digest) -> &str {
    &digest.hex()[..12]
}
