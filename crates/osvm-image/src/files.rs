//! Files that appear whole or not at all, and digests of what is in them.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

/// Opens a file for reading: no link to one, and without waiting for a writer where a pipe is.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// Whether it is the same file with the same content, as far as `stat` shows. A new hard link to it, which changes
/// the time of its last change of any kind, leaves it the same.
pub(crate) fn is_same(now: &Metadata, then: &Metadata) -> bool {
    let file = |stat: &Metadata| (stat.dev(), stat.ino(), stat.size());
    let written = |stat: &Metadata| (stat.mtime(), stat.mtime_nsec());
    file(now) == file(then) && written(now) == written(then)
}

/// Writes beside `path`, syncs, renames.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    let mut temporary = NamedTempFile::new_in(folder)?;
    write(temporary.as_file_mut())?;
    persist(temporary, path)
}

/// Held until the file is dropped. `waiting` is called before a wait for whoever holds it.
pub(crate) fn lock(path: &Path, waiting: impl FnOnce()) -> io::Result<File> {
    let file = File::create(path)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        waiting();
        flock(&file, FlockOperation::LockExclusive)?;
    }
    Ok(file)
}

/// Syncs a finished file that will never change again, and moves it from `part` to `path`.
pub(crate) fn finish(file: &File, part: &Path, path: &Path) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o444))?;
    file.sync_all()?;
    fs::rename(part, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Syncs a finished temporary file and gives it its name. Others are kept out by its folder; by its
/// own mode a VMM that is another user than the daemon may read it, where it is handed over.
pub(crate) fn persist(temporary: NamedTempFile, path: &Path) -> io::Result<()> {
    temporary.as_file().set_permissions(Permissions::from_mode(0o644))?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

pub(crate) fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Lower-case hexadecimal SHA-256 of a file's bytes.
pub(crate) fn digest(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether the file holds exactly these bytes.
pub(crate) fn holds(path: &Path, bytes: &[u8]) -> bool {
    let same_size = fs::metadata(path).is_ok_and(|meta| meta.len() == bytes.len() as u64);
    same_size && fs::read(path).is_ok_and(|found| found == bytes)
}
