//! `template.json`: what a template is of, and the length and CRC-32 of each of its files. Nothing here is synced: what
//! a crash has left half written does not fit its record.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Key;

const NAME: &str = "template.json";
const MAGIC: &str = "osvm-template";
const VERSION: u32 = 1;
/// Far above any honest record.
const MAX_BYTES: u64 = 1 << 20;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    magic: String,
    version: u32,
    key: String,
    files: BTreeMap<String, (u64, u32)>,
}

impl Record {
    /// Of what is in the folder.
    pub(super) fn write(folder: &Path, key: &Key) -> io::Result<()> {
        let record = Self::of(folder, key)?;
        fs::write(folder.join(NAME), serde_json::to_vec(&record)?)
    }

    /// Why it is of no use, if so. Nothing is said of one that is not there.
    pub(super) fn check(folder: &Path, key: &Key) -> Result<(), String> {
        let path = folder.join(NAME);
        let unreadable = |error: io::Error| error.to_string();
        let mut text = String::new();
        let file = File::open(&path).map_err(unreadable)?;
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(unreadable)?;
        let record: Self = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        if record.magic != MAGIC || record.version != VERSION {
            return Err(format!("it is of version {}, known is {VERSION}", record.version));
        }
        if record.key != key.text() {
            return Err("it is of another machine".to_owned());
        }
        if Self::of(folder, key).map_err(unreadable)? != record {
            return Err("its files are not as they were written".to_owned());
        }
        let used = File::options().write(true).open(&path);
        // Only whether it is old is told by that.
        let _ = used.and_then(|file| file.set_modified(SystemTime::now()));
        Ok(())
    }

    fn of(folder: &Path, key: &Key) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != NAME {
                files.insert(name, sum(&entry.path())?);
            }
        }
        let (magic, key) = (MAGIC.to_owned(), key.text().to_owned());
        Ok(Self { magic, version: VERSION, key, files })
    }
}

/// When a template was used last.
pub(super) fn used(folder: &Path) -> io::Result<SystemTime> {
    fs::metadata(folder.join(NAME))?.modified()
}

fn sum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let (mut bytes, mut sum) = (0, crc32fast::Hasher::new());
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((bytes, sum.finalize())),
            count => {
                bytes += count as u64;
                sum.update(&buffer[..count]);
            }
        }
    }
}
