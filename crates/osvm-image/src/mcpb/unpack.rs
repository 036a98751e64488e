//! A bundle's files into a folder of the host's, from which a disk is made. Nothing of them is run.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

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
        let (archive, entries) = (&mut self.archive, &self.entries);
        let of = |form| entries.iter().filter(move |entry| entry.form == form);
        for entry in of(Form::Folder) {
            make_folder(&folder.join(&entry.path))?;
        }
        for entry in of(Form::File) {
            unpack_file(archive, entry, &folder.join(&entry.path), progress)?;
        }
        // Nothing is written any more, so a link can't lead a write elsewhere.
        for entry in of(Form::Link) {
            unpack_link(archive, entry, &folder.join(&entry.path))?;
        }
        of(Form::Folder).try_for_each(|entry| {
            let path = folder.join(&entry.path);
            fs::set_permissions(&path, Permissions::from_mode(entry.mode)).map_err(writing(&path))
        })
    }
}

fn unpack_file<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    entry: &Entry,
    path: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<(), BundleError> {
    make_folder_of(path)?;
    let mut file = create(path).map_err(writing(path))?;
    entry.copy(archive, |bytes| {
        progress(bytes.len() as u64);
        file.write_all(bytes).map_err(writing(path))
    })?;
    file.set_permissions(Permissions::from_mode(entry.mode)).map_err(writing(path))
}

fn unpack_link<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    entry: &Entry,
    path: &Path,
) -> Result<(), BundleError> {
    let target = String::from_utf8(entry.read(archive, entry.size)?).ok();
    let target = target.filter(|target| stays_inside(entry, target)).ok_or_else(|| {
        BundleError::Entry { name: entry.path.clone(), why: "is a link that leads out" }
    })?;
    make_folder_of(path)?;
    symlink(target, path).map_err(writing(path))
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

fn make_folder_of(path: &Path) -> Result<(), BundleError> {
    path.parent().map_or(Ok(()), make_folder)
}

fn make_folder(path: &Path) -> Result<(), BundleError> {
    fs::create_dir_all(path).map_err(writing(path))
}

fn writing(path: &Path) -> impl Fn(io::Error) -> BundleError {
    let path: PathBuf = path.to_owned();
    move |source| BundleError::Write { path: path.clone(), source }
}
