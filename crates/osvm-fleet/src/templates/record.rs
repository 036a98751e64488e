//! `template.json`: what a template is of, and the length and CRC-32 of each of its files. Nothing here is synced: what
//! a crash has left half written does not fit its record.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

use crc32fast::Hasher;
use osvm_vmm::holes;
use serde::{Deserialize, Serialize};

use super::Key;

const NAME: &str = "template.json";
const MAGIC: &str = "osvm-template";
const VERSION: u32 = 1;
/// Far above any honest record.
const MAX_BYTES: u64 = 1 << 20;

/// Bytes that are read at once.
const CHUNK: usize = 1 << 18;

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

    /// Whether both folders have one and the same. Files of a template never change, they only go together.
    pub(super) fn is_same(one: &Path, other: &Path) -> bool {
        let id =
            |folder: &Path| fs::metadata(folder.join(NAME)).map(|file| (file.dev(), file.ino()));
        id(one).ok().zip(id(other).ok()).is_some_and(|(one, other)| one == other)
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

/// Holes, which are most of a memory, are not read.
fn sum(path: &Path) -> io::Result<(u64, u32)> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut buffer = vec![0; CHUNK];
    let (mut sum, mut hole) = (Hasher::new(), Hasher::new());
    hole.update(&buffer);
    let data = holes::data(&file)?;
    let (mut place, mut data) = (0, data.iter().peekable());
    while place < length {
        while data.next_if(|data| data.end <= place).is_some() {}
        let left = usize::try_from(length - place).map_or(CHUNK, |left| left.min(CHUNK));
        let is_hole = data.peek().is_none_or(|data| data.start >= place + left as u64);
        if is_hole && left == CHUNK {
            sum.combine(&hole);
        } else {
            file.read_exact_at(&mut buffer[..left], place)?;
            sum.update(&buffer[..left]);
        }
        place += left as u64;
    }
    Ok((length, sum.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_that_of_all_bytes_however_many_of_them_are_holes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        let chunk = CHUNK as u64;
        for (length, places) in [
            (0, &[][..]),
            (5, &[0]),
            (3 * chunk, &[]),
            (5 * chunk + 7, &[2 * chunk + 4096, 5 * chunk]),
            (4 * chunk, &[0, 4 * chunk - 7]),
        ] {
            let file = File::create(&path).unwrap();
            file.set_len(length).unwrap();
            for place in places {
                file.write_all_at(b"what", *place).unwrap();
            }
            let all = fs::read(&path).unwrap();
            assert_eq!(sum(&path).unwrap(), (length, crc32fast::hash(&all)));
        }
    }
}
