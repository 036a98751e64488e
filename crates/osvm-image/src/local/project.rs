//! A folder that is a project: of Node, which starts as its package.json says, or else of Python.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Component, Path};

use serde::Deserialize;

use super::{Kind, LocalError, PROJECT, python};
use crate::config::CONFIG_FILE;

const PACKAGE: &str = "package.json";
/// More than any honest one.
const MAX_PACKAGE: u64 = 1 << 20;
/// What root file systems and container images have, and projects do not.
const OF_IMAGES: [&str; 5] = ["usr", "etc", "bin/sh", "oci-layout", CONFIG_FILE];
/// How Node completes the name of a module.
const ENDS: [&str; 5] = ["", ".js", ".json", ".node", "/index.js"];

/// What of package.json decides how it starts.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Package {
    name: String,
    main: Option<String>,
    bin: Option<Bin>,
    dependencies: BTreeMap<String, serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Bin {
    One(String),
    Several(BTreeMap<String, String>),
}

pub(super) fn is_project(folder: &Path) -> bool {
    let has = |name: &str| folder.join(name).exists();
    !OF_IMAGES.iter().any(|name| has(name)) && (has(PACKAGE) || python::is_project(folder))
}

/// What the project in that folder, a path without links, runs on, and how it is started.
pub(super) fn start(folder: &Path) -> Result<(Kind, Vec<String>), LocalError> {
    match read(folder, PACKAGE)? {
        Some(package) => Ok((Kind::Node, command(folder, &package)?)),
        None => python::start(folder),
    }
}

fn command(folder: &Path, package: &[u8]) -> Result<Vec<String>, LocalError> {
    let path = folder.to_owned();
    let refused = |reason: String| LocalError::Package { path: path.clone(), reason };
    let package: Package = serde_json::from_slice(package)
        .map_err(|error| refused(format!("is not understood: {error}")))?;
    let entry = package.entry().map_err(&refused)?;
    let within =
        within(&entry).ok_or_else(|| refused(format!("starts {entry}, which is not in it")))?;
    // Before it is built: what builds it is one of the dependencies.
    if !package.dependencies.is_empty() && !folder.join("node_modules").is_dir() {
        return Err(LocalError::NoModules { path });
    }
    if !ENDS.iter().any(|end| folder.join(format!("{within}{end}")).is_file()) {
        return Err(LocalError::NoEntry { path, entry: within });
    }
    Ok(vec!["node".to_owned(), format!("{PROJECT}/{within}")])
}

/// A file that describes a project, if there is one.
pub(super) fn read(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, LocalError> {
    let path = folder.join(name);
    let mut bytes = Vec::new();
    let read =
        fs::File::open(&path).and_then(|file| file.take(MAX_PACKAGE).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LocalError::Read { path, source }),
    }
}

impl Package {
    /// Its program, as npm takes it; else what it is as a library.
    fn entry(&self) -> Result<String, String> {
        let own = self.name.rsplit('/').next().unwrap_or_default();
        match &self.bin {
            Some(Bin::One(path)) => Ok(path.clone()),
            Some(Bin::Several(programs)) if !programs.is_empty() => {
                let only = programs.values().next().filter(|_| programs.len() == 1);
                let names = || programs.keys().cloned().collect::<Vec<_>>().join(", ");
                only.or_else(|| programs.get(own)).cloned().ok_or_else(|| {
                    format!("has several programs, and none of its own name: {}", names())
                })
            }
            _ => Ok(self.main.clone().unwrap_or_else(|| "index.js".to_owned())),
        }
    }
}

/// A path inside of the folder, without what changes nothing in it.
fn within(entry: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in Path::new(entry).components() {
        match part {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(parts.join("/")).filter(|path| !path.is_empty())
}
