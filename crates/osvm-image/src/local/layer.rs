//! A server as a layer of an image: root's, and for everybody to read.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tar::{Builder, EntryType};
use walkdir::WalkDir;

use super::{Kind, LocalError, PROJECT, Server};
use crate::entry::header;
use crate::mcpb::append_python;

/// The history of a project is no part of its server.
const LEFT_OUT: &str = ".git";

impl Server {
    pub fn write_layer(&self, out: &mut impl Write) -> Result<(), LocalError> {
        let mut archive = Builder::new(out);
        archive.sparse(false);
        match self.is_project {
            true => folder(&mut archive, &self.path)?,
            false => {
                let target = self.command[0].trim_start_matches('/');
                let written = file(&mut archive, &self.path, Path::new(target), Some(0o755));
                written.map_err(failed(&self.path))?;
            }
        }
        let python = if self.kind == Kind::Python { append_python(&mut archive) } else { Ok(()) };
        let ended = python.and_then(|()| archive.into_inner()?.flush());
        ended.map_err(failed(&self.path))
    }
}

/// What is neither a file nor a folder nor a link, such as a socket, stays where it is.
fn folder(archive: &mut Builder<impl Write>, folder: &Path) -> Result<(), LocalError> {
    let walk = WalkDir::new(folder).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|entry| entry.depth() != 1 || entry.file_name() != LEFT_OUT) {
        let entry = entry.map_err(|error| failed(folder)(error.into()))?;
        let inside = entry.path().strip_prefix(folder).expect("it is below the folder");
        let target = Path::new(PROJECT.trim_start_matches('/')).join(inside);
        let kind = entry.file_type();
        let written = if kind.is_dir() {
            archive.append_data(&mut header(EntryType::Directory, 0o755, 0), &target, io::empty())
        } else if kind.is_symlink() {
            link(archive, entry.path(), &target)
        } else if kind.is_file() {
            file(archive, entry.path(), &target, None)
        } else {
            Ok(())
        };
        written.map_err(failed(entry.path()))?;
    }
    Ok(())
}

fn file(
    archive: &mut Builder<impl Write>,
    from: &Path,
    target: &Path,
    mode: Option<u32>,
) -> io::Result<()> {
    let from = File::open(from)?;
    let stat = from.metadata()?;
    let own = if stat.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
    let mut header = header(EntryType::Regular, mode.unwrap_or(own), stat.len());
    // One that grows meanwhile is found out by its looks; its archive is whole nevertheless.
    archive.append_data(&mut header, target, from.take(stat.len()))
}

fn link(archive: &mut Builder<impl Write>, from: &Path, target: &Path) -> io::Result<()> {
    let to = std::fs::read_link(from)?;
    archive.append_link(&mut header(EntryType::Symlink, 0o777, 0), target, to)
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> LocalError {
    let path = path.to_owned();
    move |source| LocalError::Read { path, source }
}
