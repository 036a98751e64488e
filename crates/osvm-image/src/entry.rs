//! Files and folders of the host in the archives of layers that osvm writes itself: their owners, modes and times are
//! the same wherever they are written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};
use walkdir::{DirEntry, WalkDir};

/// Whose an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Root,
    /// Whom servers run as where nobody is named, as the guest's agent has it (`osvm-guest`, `process/user.rs`). A server
    /// that keeps its data beside its own files can write there.
    Server,
}

impl Owner {
    fn id(self) -> u64 {
        match self {
            Self::Root => 0,
            Self::Server => 1000,
        }
    }
}

/// What could not be read, or written down.
pub(crate) struct Unwritten {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

/// What stands before root's file.
pub(crate) fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    header_of(Owner::Root, kind, mode, size)
}

fn header_of(owner: Owner, kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(owner.id());
    header.set_gid(owner.id());
    header.set_mtime(0);
    header
}

/// A folder with everything in it, the server's, at `to` in the guest, but for what is not `wanted`. What is neither a file
/// nor a folder nor a link, such as a socket, stays where it is.
pub(crate) fn append_folder(
    archive: &mut Builder<impl Write>,
    folder: &Path,
    to: &str,
    wanted: impl Fn(&DirEntry) -> bool,
) -> Result<(), Unwritten> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Unwritten { path, source }
    };
    for entry in WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(wanted) {
        let entry = entry.map_err(|error| failed(folder)(error.into()))?;
        let inside = entry.path().strip_prefix(folder).expect("it is below the folder");
        let target = Path::new(to.trim_start_matches('/')).join(inside);
        append(archive, &entry, &target).map_err(failed(entry.path()))?;
    }
    Ok(())
}

fn append(archive: &mut Builder<impl Write>, entry: &DirEntry, target: &Path) -> io::Result<()> {
    let kind = entry.file_type();
    if kind.is_dir() {
        let mut header = header_of(Owner::Server, EntryType::Directory, 0o755, 0);
        archive.append_data(&mut header, target, io::empty())
    } else if kind.is_symlink() {
        let to = std::fs::read_link(entry.path())?;
        archive.append_link(&mut header_of(Owner::Server, EntryType::Symlink, 0o777, 0), target, to)
    } else if kind.is_file() {
        append_file(archive, entry.path(), target, (Owner::Server, None))
    } else {
        Ok(())
    }
}

/// A file, of this mode or as far as its own says that it is a program.
pub(crate) fn append_file(
    archive: &mut Builder<impl Write>,
    from: &Path,
    target: &Path,
    (owner, mode): (Owner, Option<u32>),
) -> io::Result<()> {
    let from = File::open(from)?;
    let stat = from.metadata()?;
    let own = if stat.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
    let mut header = header_of(owner, EntryType::Regular, mode.unwrap_or(own), stat.len());
    // One that grows meanwhile is found out by its looks; its archive is whole nevertheless.
    archive.append_data(&mut header, target, from.take(stat.len()))
}
