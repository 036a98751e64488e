//! Servers that READMEs start as a container (`docker run -i --rm -e TOKEN ghcr.io/owner/server`), as what osvm runs:
//! image, arguments, environment, secrets, folders. Each flag is followed, told as not needed, or refused by name;
//! none is lost in silence.
//!
//! ```text
//! argv ── words (flags and their values) ── flags (what each means) ── Run ── lower: an entry that says the same
//! ```

mod error;
mod flags;
mod mounts;
mod words;

use std::collections::BTreeMap;

pub use error::ContainerError;

use crate::config::{Entry, Size};
use crate::{FolderRule, ImageRef, SecretRule};

/// A container as its command line says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub image: ImageRef,
    /// In place of the image's.
    pub entrypoint: Option<String>,
    /// In place of the image's own arguments, if there are any.
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Variables that are handed on from the environment.
    pub passed: Vec<String>,
    pub folders: Vec<FolderRule>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub size: Size,
    /// Flags that are not followed, because a VM has no need of them.
    pub unheeded: Vec<String>,
}

/// What `argv` runs, if it runs a container.
pub fn recognise(argv: &[String]) -> Result<Option<Run>, ContainerError> {
    match words::of_run(argv)? {
        Some((program, words)) => flags::run(program, words).map(Some),
        None => Ok(None),
    }
}

/// The entry with what its command says of a container in the entry's own keys, and the flags that are not needed.
/// What the entry says itself is stronger. Arguments without an entrypoint stay behind `docker run IMAGE`.
pub fn lower(entry: Entry) -> Result<(Entry, Vec<String>), ContainerError> {
    if entry.image.is_some() {
        return Ok((entry, Vec::new()));
    }
    let Some(run) = recognise(&entry.command)? else { return Ok((entry, Vec::new())) };
    let unheeded = run.unheeded.clone();
    Ok((lowered(entry, run)?, unheeded))
}

fn lowered(entry: Entry, run: Run) -> Result<Entry, ContainerError> {
    let mut env = run.env;
    env.extend(entry.env);
    let passed = run.passed.into_iter().filter(|name| !env.contains_key(name));
    let passed = passed.map(|name| name.parse().map_err(|_| ContainerError::Variable(name)));
    let passed = passed.collect::<Result<Vec<SecretRule>, _>>()?;
    let is_other = |folder: &FolderRule| entry.folders.iter().all(|own| own.guest != folder.guest);
    let folders = run.folders.into_iter().filter(is_other).collect::<Vec<_>>();
    let size = entry.microvm_config;
    let (image, command) = match (run.entrypoint, run.args) {
        (Some(entrypoint), args) => (Some(run.image), [vec![entrypoint], args].concat()),
        (None, args) if args.is_empty() => (Some(run.image), args),
        (None, args) => {
            let words = ["docker", "run"].map(str::to_owned).into_iter();
            (None, words.chain([run.image.to_string()]).chain(args).collect())
        }
    };
    Ok(Entry {
        image,
        command,
        env,
        secrets: SecretRule::merge(passed, &entry.secrets),
        folders: folders.into_iter().chain(entry.folders).collect(),
        user: entry.user.or(run.user),
        working_dir: entry.working_dir.or(run.working_dir),
        microvm_config: Size {
            memory_mb: size.memory_mb.or(run.size.memory_mb),
            vcpus: size.vcpus.or(run.size.vcpus),
        },
        ..entry
    })
}

#[cfg(test)]
mod tests;
