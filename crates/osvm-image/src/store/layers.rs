//! Layers that images are put together from, made once and under a lock.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

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
        let (path, part) = (self.root.join("layers").join(name), self.parts().join(name));
        Ok(Hold { path, part, _lock: file })
    }
}

impl Hold {
    /// Where the layer lies, or is to lie.
    pub fn path(&self) -> &Path {
        &self.path
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
