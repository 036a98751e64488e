//! Layers that images are put together from, made once and under a lock.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Store, StoreError};
use crate::files;

/// A layer that nobody else makes meanwhile.
#[derive(Debug)]
pub struct Hold {
    path: PathBuf,
    part: PathBuf,
    _lock: File,
}

/// A layer that is being written. One that is given up is written over, or swept away.
#[derive(Debug)]
pub struct Draft {
    file: File,
    part: PathBuf,
    target: PathBuf,
}

impl Store {
    /// Waits until nobody else makes the layer of this name, which is a file name. `waiting` is called before a wait.
    pub fn hold(&self, name: &str, waiting: impl FnOnce()) -> Result<Hold, StoreError> {
        let lock = self.root.join("locks").join(name);
        let file = files::lock(&lock, waiting).map_err(failed("lock", &lock))?;
        let (path, part) = (self.layer(name), self.parts().join(name));
        Ok(Hold { path, part, _lock: file })
    }

    /// Where the layer of this name lies, or is to lie.
    pub fn layer(&self, name: &str) -> PathBuf {
        self.root.join("layers").join(name)
    }

    /// Names and bytes of all layers that nobody makes or uses at this moment.
    pub fn layers(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let mut found = Vec::new();
        for name in self.names("layers")? {
            // One that went meanwhile is none any more.
            if let (Some(_lock), Ok(stat)) =
                (self.try_lock(&name)?, fs::metadata(self.layer(&name)))
            {
                found.push((name, stat.len()));
            }
        }
        Ok(found)
    }

    /// Unless somebody uses it just now, or it is gone.
    pub fn remove_layer(&self, name: &str) -> Result<(), StoreError> {
        if self.try_lock(name)?.is_some() {
            self.remove_file(self.layer(name))?;
        }
        Ok(())
    }
}

impl Hold {
    /// Where the layer lies, or is to lie.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How long ago it was made, or brought into this store. Nothing where there is no layer.
    pub fn age(&self) -> Option<Duration> {
        let changed = fs::metadata(&self.path).ok()?.ctime();
        let changed = UNIX_EPOCH + Duration::from_secs(changed.try_into().ok()?);
        Some(SystemTime::now().duration_since(changed).unwrap_or_default())
    }

    /// Whether that other layer was made after it.
    pub fn is_older_than(&self, other: &Path) -> bool {
        let made = |path: &Path| fs::metadata(path).and_then(|stat| stat.modified()).ok();
        made(&self.path) < made(other)
    }

    /// Gives its name to a layer that was made in a file of the same file system. Where the same is there already, that
    /// one stays as if it were new: what was made of it is current.
    pub fn put(&self, made: &Path) -> Result<(), StoreError> {
        let kept = match files::digest(&self.path) {
            Ok(old) if files::digest(made).is_ok_and(|new| new == old) => {
                fs::set_permissions(&self.path, Permissions::from_mode(0o444))
            }
            _ => File::open(made).and_then(|file| files::finish(&file, made, &self.path)),
        };
        kept.map_err(failed("keep layer", &self.path))
    }

    /// A folder for what the layer is made of. It stays when that fails: the next time goes on with it.
    pub fn downloads(&self) -> Result<PathBuf, StoreError> {
        let folder = self.part.with_added_extension("pull");
        files::make_folder(&folder).map_err(failed("make folder", &folder))?;
        Ok(folder)
    }

    /// An empty layer.
    pub fn draft(&self) -> Result<Draft, StoreError> {
        let file = File::create(&self.part).map_err(failed("make layer", &self.part))?;
        Ok(Draft { file, part: self.part.clone(), target: self.path.clone() })
    }

    /// Once the layer is made.
    pub fn forget_downloads(&self) -> Result<(), StoreError> {
        let folder = self.part.with_added_extension("pull");
        fs::remove_dir_all(&folder).map_err(failed("remove folder", &folder))
    }

    /// Once it is of no more use.
    pub fn remove(&self) -> Result<(), StoreError> {
        fs::remove_file(&self.path).map_err(failed("remove layer", &self.path))
    }
}

impl Draft {
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Gives the layer its name.
    pub fn finish(self) -> Result<(), StoreError> {
        let kept = files::finish(&self.file, &self.part, &self.target);
        kept.map_err(failed("keep layer", &self.target))
    }
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::File { act, path, source }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    #[test]
    fn a_layer_is_there_once_it_is_whole_and_nobody_makes_it_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let hold = store.hold("a", || panic!("nobody has it")).unwrap();
        let mut draft = hold.draft().unwrap();
        draft.file().write_all(b"whole").unwrap();
        assert!(!hold.path().exists());
        let seen = thread::scope(|scope| {
            let (told, waits) = std::sync::mpsc::channel();
            let other = store.clone();
            let second = scope.spawn(move || {
                let hold = other.hold("a", || told.send(()).unwrap()).unwrap();
                fs::read(hold.path()).unwrap()
            });
            waits.recv().unwrap();
            draft.finish().unwrap();
            drop(hold);
            second.join().unwrap()
        });
        assert_eq!(seen, b"whole");
    }

    #[test]
    fn the_same_layer_made_again_is_the_old_one_and_new_and_another_one_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let hold = store.hold("a", || {}).unwrap();
        assert_eq!(hold.age(), None);
        let put = |text: &str| {
            let made = hold.downloads().unwrap().join("layer");
            fs::write(&made, text).unwrap();
            hold.put(&made).unwrap();
            fs::metadata(hold.path()).unwrap()
        };
        let first = put("1");
        thread::sleep(Duration::from_millis(20));
        let same = put("1");
        assert_eq!((first.ino(), first.mtime_nsec()), (same.ino(), same.mtime_nsec()));
        assert!((first.ctime(), first.ctime_nsec()) < (same.ctime(), same.ctime_nsec()));
        let other = store.hold("b", || {}).unwrap();
        other.draft().unwrap().finish().unwrap();
        assert!(hold.is_older_than(other.path()) && !other.is_older_than(hold.path()));
        put("2");
        assert_eq!(fs::read(hold.path()).unwrap(), b"2");
        assert!(hold.age().unwrap() < Duration::from_secs(600));
    }

    #[test]
    fn only_layers_that_nobody_holds_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let held = ["a", "b"].map(|name| store.hold(name, || {}).unwrap());
        held.iter().for_each(|hold| hold.draft().unwrap().finish().unwrap());
        let [_held, free] = held;
        assert_eq!(store.layers().unwrap(), []);
        drop(free);
        assert_eq!(store.layers().unwrap(), [("b".to_owned(), 0)]);
    }

    #[test]
    fn a_draft_that_was_given_up_is_no_layer_and_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let hold = store.hold("a", || {}).unwrap();
        hold.draft().unwrap().file().write_all(b"half").unwrap();
        fs::write(hold.downloads().unwrap().join("x"), b"kept").unwrap();
        assert_eq!(store.sweep().unwrap(), 0, "it is held");
        drop(hold);
        assert_eq!(store.sweep().unwrap(), 8);
        assert!(!store.hold("a", || {}).unwrap().path().exists());
    }
}
