//! A bundle's files into a folder of the host's, from which a disk is made. Nothing of them is run.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::entries::{Entry, Form};
use super::{Bundle, BundleError};

impl<R: Read + Seek> Bundle<R> {
    /// Unpacks everything into `folder`, which is empty and nobody else's; `progress` is told how many bytes
    /// more are there. What an error leaves is of no use.
    pub fn unpack(
        &mut self,
        folder: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), BundleError> {
        for index in 0..self.entries.len() {
            match self.entries[index].form {
                Form::File => self.file(index, folder, progress)?,
                Form::Folder => make_folder(&folder.join(&self.entries[index].path))?,
                Form::Link => {}
            }
        }
        // Nothing is written any more, so a link can't lead a write elsewhere.
        for index in 0..self.entries.len() {
            if self.entries[index].form == Form::Link {
                self.link(index, folder)?;
            }
        }
        self.entries.iter().filter(|entry| entry.form == Form::Folder).try_for_each(|entry| {
            let path = folder.join(&entry.path);
            fs::set_permissions(&path, Permissions::from_mode(entry.mode)).map_err(writing(&path))
        })
    }

    fn file(
        &mut self,
        index: usize,
        folder: &Path,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), BundleError> {
        let entry = &self.entries[index];
        let path = folder.join(&entry.path);
        make_folder(path.parent().unwrap_or(folder))?;
        let mut file = create(&path).map_err(writing(&path))?;
        entry.copy(&mut self.archive, |bytes| {
            progress(bytes.len() as u64);
            file.write_all(bytes).map_err(writing(&path))
        })?;
        file.set_permissions(Permissions::from_mode(entry.mode)).map_err(writing(&path))
    }

    fn link(&mut self, index: usize, folder: &Path) -> Result<(), BundleError> {
        let entry = &self.entries[index];
        let target = entry.read(&mut self.archive, entry.size)?;
        let target = String::from_utf8(target).ok();
        let target = target.filter(|target| stays_inside(entry, target)).ok_or_else(|| {
            BundleError::Entry { name: entry.path.clone(), why: "is a link that leads out" }
        })?;
        let path = folder.join(&entry.path);
        make_folder(path.parent().unwrap_or(folder))?;
        symlink(target, &path).map_err(writing(&path))
    }
}

/// Whether a link leads to a place in the bundle. `..` may only stand at the start of the target: there it
/// leaves folders that are no links, and behind a name it could leave what another link leads to.
fn stays_inside(entry: &Entry, target: &str) -> bool {
    let depth = entry.path.matches('/').count();
    let up = target.split('/').take_while(|part| *part == "..").count();
    let plain = target.split('/').skip(up).all(|part| part != "..");
    plain && up <= depth && !target.starts_with('/') && !target.is_empty() && !target.contains('\0')
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn make_folder(path: &Path) -> Result<(), BundleError> {
    fs::create_dir_all(path).map_err(writing(path))
}

fn writing(path: &Path) -> impl Fn(io::Error) -> BundleError {
    let path: PathBuf = path.to_owned();
    move |source| BundleError::Write { path: path.clone(), source }
}
