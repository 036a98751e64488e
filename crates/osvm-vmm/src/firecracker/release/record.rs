//! `release.json`: the sum that each release had when it was first used here.
//!
//! The file is one JSON object: `magic`, `version`, `checksum` (SHA-256 of the text of `sums`) and
//! `sums`. A file that fails any check is not trusted, and nothing is installed beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::download::hexadecimal;
use super::{ReleaseError, cannot_write, sync};

/// Beside the programs.
pub(super) const FILE: &str = "release.json";

const MAGIC: &str = "osvm-release";
const VERSION: u32 = 1;
/// Thousands of releases.
const MAX_BYTES: u64 = 1 << 20;

pub(super) struct Record {
    path: PathBuf,
    sums: Sums,
}

/// By version, in hexadecimal.
type Sums = BTreeMap<String, String>;

#[derive(Serialize, Deserialize)]
struct Envelope {
    magic: String,
    version: u32,
    checksum: String,
    sums: Sums,
}

impl Record {
    /// A missing file is an empty one.
    pub(super) fn load(path: &Path) -> Result<Self, ReleaseError> {
        let untrusted = |what| ReleaseError::Record { path: path.to_owned(), what };
        let sums = match read(path) {
            Ok(text) => trusted(&text).map_err(untrusted)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Sums::new(),
            Err(error) => return Err(untrusted(error.to_string())),
        };
        Ok(Self { path: path.to_owned(), sums })
    }

    /// Refuses a sum other than the one that the release had before.
    pub(super) fn check(&self, version: &str, sum: &str) -> Result<(), ReleaseError> {
        let Some(before) = self.sums.get(version).filter(|before| *before != sum) else {
            return Ok(());
        };
        Err(ReleaseError::Changed {
            version: version.to_owned(),
            now: sum.to_owned(),
            before: before.clone(),
            record: self.path.clone(),
        })
    }

    /// Remembers the sum, on disk as well.
    pub(super) fn keep(&mut self, version: &str, sum: &str) -> Result<(), ReleaseError> {
        self.sums.insert(version.to_owned(), sum.to_owned());
        let folder = self.path.parent().unwrap_or(Path::new("."));
        self.write(folder).map_err(cannot_write(&self.path))?;
        sync(folder)
    }

    fn write(&self, folder: &Path) -> io::Result<()> {
        let text = serde_json::to_string(&Envelope {
            magic: MAGIC.to_owned(),
            version: VERSION,
            checksum: checksum(&self.sums)?,
            sums: self.sums.clone(),
        })?;
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    Ok(text)
}

fn trusted(text: &str) -> Result<Sums, String> {
    if text.len() as u64 > MAX_BYTES {
        return Err(format!("it is longer than {MAX_BYTES} bytes"));
    }
    let envelope: Envelope = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if envelope.magic != MAGIC {
        return Err("it is no record of releases".to_owned());
    }
    if envelope.version != VERSION {
        return Err(format!("its version is {}, known is {VERSION}", envelope.version));
    }
    if checksum(&envelope.sums).map_err(|error| error.to_string())? != envelope.checksum {
        return Err("its checksum does not match".to_owned());
    }
    Ok(envelope.sums)
}

fn checksum(sums: &Sums) -> serde_json::Result<String> {
    Ok(hexadecimal(&Sha256::digest(serde_json::to_vec(sums)?)))
}
