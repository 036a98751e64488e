//! A bundle as a layer of an image: its files in their folder of the guest, the server's, and for everybody to read.

use std::fs::{self, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tar::{Builder, EntryType};

use super::{Bundle, BundleError, Guest, Kind, Manifest};
use crate::entry::{append_folder, header};

/// Where a bundle lies in the guest, and the home that the distribution's layer has.
pub const GUEST: Guest<'static> = Guest { bundle: "/mcpb", home: "/work" };

/// By this name manifests start Python, and the distribution has none of it.
const PYTHON: (&str, &str) = ("usr/local/bin/python", "/usr/bin/python3");

impl<R: Read + Seek> Bundle<R> {
    /// Writes the layer. Until then the bundle lies in a folder below `work`.
    pub fn write_layer(&mut self, work: &Path, out: &mut impl Write) -> Result<(), BundleError> {
        let failed = |source| BundleError::Write { path: work.to_owned(), source };
        let folder = tempfile::tempdir_in(work).map_err(failed)?;
        self.unpack(folder.path(), &mut |_| {})?;
        let written = make_runnable(self.manifest(), folder.path())
            .and_then(|()| write(self.manifest().kind, folder.path(), out));
        written.map_err(failed)
    }
}

/// Archives that were not written on Unix do not tell what is a program.
fn make_runnable(manifest: &Manifest, folder: &Path) -> io::Result<()> {
    let programs = manifest.programs().map(|path| folder.join(path));
    let is_file = |path: &&_| fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    programs
        .iter()
        .filter(is_file)
        .try_for_each(|path| fs::set_permissions(path, Permissions::from_mode(0o755)))
}

fn write(kind: Kind, folder: &Path, out: &mut impl Write) -> io::Result<()> {
    let mut archive = Builder::new(out);
    archive.sparse(false);
    append_folder(&mut archive, folder, GUEST.bundle, |_| true).map_err(|error| error.source)?;
    if kind == Kind::Python {
        append_python(&mut archive)?;
    }
    archive.into_inner()?.flush()
}

/// Gives Python the name that the distribution has none of.
pub(crate) fn append_python(archive: &mut Builder<impl Write>) -> io::Result<()> {
    let (link, target) = PYTHON;
    archive.append_link(&mut header(EntryType::Symlink, 0o777, 0), link, target)
}
