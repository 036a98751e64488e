//! The two programs out of a release's archive, and nothing else of it.

use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use flate2::read::GzDecoder;
use tempfile::NamedTempFile;

use super::{Release, ReleaseError, cannot_write};

pub(super) const PROGRAMS: [&str; 2] = ["firecracker", "jailer"];

/// The programs in temporary files of the folder `into`, in the order of [`PROGRAMS`], ready to get
/// their names.
pub(super) fn programs(
    archive: File,
    release: &Release,
    limit: u64,
    into: &Path,
) -> Result<[NamedTempFile; 2], ReleaseError> {
    let failed = |source| ReleaseError::Unpack { url: release.url(), source };
    let bounded = Bounded { inner: GzDecoder::new(io::BufReader::new(archive)), left: limit };
    let mut tar = tar::Archive::new(bounded);
    let wanted = PROGRAMS.map(|program| release.member(program));
    let mut found = [None, None];
    for entry in tar.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let path = entry.path().map_err(failed)?.into_owned();
        let Some(index) = wanted.iter().position(|name| *name == path) else { continue };
        if entry.header().entry_type().is_file() {
            found[index] = Some(program(&mut entry, into, failed)?);
        }
        if found.iter().all(Option::is_some) {
            break;
        }
    }
    let missing = |program| ReleaseError::Missing { url: release.url(), program };
    let [firecracker, jailer] = found;
    Ok([
        firecracker.ok_or_else(|| missing(PROGRAMS[0]))?,
        jailer.ok_or_else(|| missing(PROGRAMS[1]))?,
    ])
}

fn program(
    entry: &mut impl Read,
    into: &Path,
    failed: impl Fn(io::Error) -> ReleaseError,
) -> Result<NamedTempFile, ReleaseError> {
    let mut file = NamedTempFile::new_in(into).map_err(cannot_write(into))?;
    io::copy(entry, &mut file).map_err(failed)?;
    file.as_file().set_permissions(Permissions::from_mode(0o755)).map_err(cannot_write(into))?;
    file.as_file().sync_all().map_err(cannot_write(into))?;
    Ok(file)
}

/// A reader that fails when there is more than was allowed, where `take` would end.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let over = || io::Error::new(io::ErrorKind::FileTooLarge, "it is far too big unpacked");
        self.left = self.left.checked_sub(count as u64).ok_or_else(over)?;
        Ok(count)
    }
}
