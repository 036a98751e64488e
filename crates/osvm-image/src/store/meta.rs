//! What is kept about an image beside its bytes.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use osvm_spec::lock::Pin;
use serde::{Deserialize, Serialize};

use super::{Digest, Image, Root, StoreError};
use crate::config;
use crate::files;
use crate::oci::Built;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Meta {
    magic: String,
    version: u32,
    kind: Kind,
    size: u64,
    origin: String,
    entrypoint: Vec<String>,
    /// Of the entrypoint's words; absent in older records.
    #[serde(default)]
    arguments: usize,
    env: Vec<(String, String)>,
    user: Option<String>,
    workdir: Option<String>,
    /// Both since version 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    architecture: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    packages: BTreeSet<Pin>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Disk,
    Cpio,
}

const MAGIC: &str = "osvm-image";
const VERSION: u32 = 2;
/// What older ones wrote lacks only what may be absent.
const OLDEST: u32 = 1;

impl Meta {
    pub(super) fn new(kind: Kind, size: u64, origin: String, built: Built) -> Self {
        let Built { config, manifest, architecture } = built;
        Self {
            magic: MAGIC.to_owned(),
            version: VERSION,
            kind,
            size,
            origin,
            entrypoint: config.command(),
            arguments: config.arguments(),
            env: config.env(),
            user: config.user(),
            workdir: config.working_dir(),
            packages: config.packages().clone(),
            manifest,
            architecture,
        }
    }

    pub(super) fn load(path: &Path) -> Result<Self, StoreError> {
        let mut text = String::new();
        File::open(path)
            .and_then(|file| file.take(2 * config::MAX_BYTES as u64).read_to_string(&mut text))
            .map_err(|source| StoreError::File { act: "read", path: path.to_owned(), source })?;
        let damaged = |what: String| StoreError::Damaged { path: path.to_owned(), what };
        let meta: Self = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if meta.magic != MAGIC {
            return Err(damaged("it describes no image".to_owned()));
        }
        if !(OLDEST..=VERSION).contains(&meta.version) {
            return Err(damaged(format!("its version is {}, known is {VERSION}", meta.version)));
        }
        Ok(meta)
    }

    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        files::write_whole(path, |out| out.write_all(text.as_bytes()))
    }

    pub(super) fn image(self, digest: Digest, blob: PathBuf) -> Image {
        let root = match self.kind {
            Kind::Disk => Root::Disk(blob),
            Kind::Cpio => Root::Cpio(blob),
        };
        Image {
            digest,
            root,
            size: self.size,
            origin: self.origin,
            arguments: self.arguments.min(self.entrypoint.len()),
            entrypoint: self.entrypoint,
            env: self.env,
            user: self.user,
            workdir: self.workdir,
            manifest: self.manifest,
            architecture: self.architecture,
            packages: self.packages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_the_first_version_are_still_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meta");
        let text = r#"{"magic":"osvm-image","version":1,"kind":"disk","size":4096,"origin":"/x",
            "entrypoint":["/bin/a"],"env":[["A","b"]],"user":null,"workdir":null}"#;
        std::fs::write(&path, text).unwrap();
        let meta = Meta::load(&path).unwrap();
        assert_eq!((meta.entrypoint, meta.manifest), (vec!["/bin/a".to_owned()], None));
        std::fs::write(&path, text.replace(":1", ":3")).unwrap();
        let newer = Meta::load(&path).unwrap_err().to_string();
        assert!(newer.ends_with("its version is 3, known is 2"), "{newer}");
    }
}
