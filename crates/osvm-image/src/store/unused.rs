//! What nobody uses, and how it goes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use walkdir::WalkDir;

use super::import::Known;
use super::{Digest, Source, Store, StoreError};

impl Store {
    /// The digest of the image that a source gave when it was last imported, whatever it looks like now.
    pub fn last(&self, source: &Source) -> Option<Digest> {
        Known::read(&self.source_record(source)).map(|known| known.digest)
    }

    /// The same, if the source still looks as it did then, and the image is whole.
    pub fn current(&self, source: &Source) -> Option<Digest> {
        Some(self.known(source, &source.look().ok()?)?.digest)
    }

    /// Every image but those, with its bytes on disk; damaged ones, too.
    pub fn others(&self, kept: &BTreeSet<Digest>) -> Result<Vec<(Digest, u64)>, StoreError> {
        let named = [self.names("blobs")?, self.names("meta")?].concat();
        let digests: BTreeSet<_> = named.iter().filter_map(|hex| Digest::of_hex(hex)).collect();
        let others = digests.difference(kept).map(|digest| (digest.clone(), self.bytes_of(digest)));
        Ok(others.collect())
    }

    fn bytes_of(&self, digest: &Digest) -> u64 {
        fs::metadata(self.blob(digest)).map_or(0, |stat| stat.len())
    }

    /// Removes what imports that were given up have left, and records of images that are gone. Returns the bytes.
    pub fn sweep(&self) -> Result<u64, StoreError> {
        for name in self.names("sources")? {
            let record = self.root.join("sources").join(name);
            if !Known::read(&record).is_some_and(|known| self.blob(&known.digest).exists()) {
                self.remove_file(record)?;
            }
        }
        let parts = self.names("parts")?;
        parts.iter().map(|name| self.remove_part(name)).sum()
    }

    /// Unless its import is under way.
    fn remove_part(&self, name: &str) -> Result<u64, StoreError> {
        let key = name.strip_suffix(".pull").unwrap_or(name);
        let failed = |path: &Path, source| {
            let path = path.to_owned();
            StoreError::File { act: "remove", path, source }
        };
        let Some(_lock) = self.try_lock(key)? else { return Ok(0) };
        let part = self.root.join("parts").join(name);
        let bytes = size(&part);
        let removed = match part.is_dir() {
            true => fs::remove_dir_all(&part),
            false => fs::remove_file(&part),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&part, error)),
            _ => Ok(bytes),
        }
    }

    /// Nothing while somebody else holds it.
    pub(super) fn try_lock(&self, name: &str) -> Result<Option<File>, StoreError> {
        let path = self.root.join("locks").join(name);
        let lock =
            File::create(&path).map_err(|source| StoreError::File { act: "lock", path, source })?;
        let locked = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        Ok(locked.then_some(lock))
    }

    pub(super) fn names(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let path = self.root.join(folder);
        let failed = |source| StoreError::File { act: "read folder", path: path.clone(), source };
        let names = fs::read_dir(&path).map_err(failed)?.flatten();
        Ok(names.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    pub(super) fn source_record(&self, source: &Source) -> PathBuf {
        self.root.join("sources").join(source.key())
    }
}

fn size(path: &Path) -> u64 {
    let files = WalkDir::new(path).into_iter().flatten();
    files
        .filter_map(|entry| entry.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|s| s.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store, Source) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("images")).unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), "1").unwrap();
        let source = Source::at(&root).unwrap();
        (folder, store, source)
    }

    #[test]
    fn only_what_is_not_kept_is_among_the_others() {
        let (folder, store, source) = store();
        let first = store.import(&source, &mut |_| {}).unwrap().digest;
        fs::write(folder.path().join("root/a"), "2").unwrap();
        let second = store.import(&source, &mut |_| {}).unwrap().digest;
        let others = |kept: &[&Digest]| {
            let others = store.others(&kept.iter().map(|&digest| digest.clone()).collect());
            others.unwrap().into_iter().map(|(digest, _)| digest).collect::<Vec<_>>()
        };
        assert_eq!(others(&[&first]), std::slice::from_ref(&second));
        assert_eq!(others(&[&first, &second]), []);
        fs::write(store.meta(&first), "damaged").unwrap();
        assert_eq!(others(&[&second]), [first]);
    }

    #[test]
    fn a_source_is_known_by_what_it_gave_last() {
        let (folder, store, source) = store();
        assert_eq!(store.last(&source), None);
        let digest = store.import(&source, &mut |_| {}).unwrap().digest;
        fs::write(folder.path().join("root/a"), "2").unwrap();
        assert_eq!(store.last(&source), Some(digest.clone()));
        store.remove(&digest).unwrap();
        store.sweep().unwrap();
        assert_eq!(store.last(&source), None);
    }

    #[test]
    fn what_a_given_up_import_left_goes_and_what_is_under_way_stays() {
        let (folder, store, source) = store();
        let parts = folder.path().join("images/parts");
        fs::write(parts.join("given-up"), [0; 7]).unwrap();
        fs::create_dir(parts.join("pulled.pull")).unwrap();
        fs::write(parts.join("pulled.pull/layer"), [0; 5]).unwrap();
        fs::write(parts.join(source.key()), [0; 3]).unwrap();
        let lock = File::create(folder.path().join("images/locks").join(source.key())).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        assert_eq!(store.sweep().unwrap(), 12);
        let left: Vec<_> = fs::read_dir(parts).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [source.key().as_str()]);
    }
}
