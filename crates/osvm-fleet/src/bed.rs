//! Where a suspended VM is on disk: its memory and the state of its devices.
//!
//! ```text
//! $OSVM_HOME/suspended/<id>/          what the driver has written
//!                          /template/ what it has left out: the files of the template that the VM has come from
//! ```
//!
//! Not in the run directory, which may be in memory itself.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use crate::id::VmId;
use crate::remove::remove;
use crate::state::{Cause, CauseKind};

const FOLDER: &str = "suspended";
const TEMPLATE: &str = "template";

/// Beside its memory, a machine on disk takes so many bytes at most.
const BESIDE: u64 = 16 << 20;

/// What is left on the disk, in bytes.
const KEPT: u64 = 64 << 20;

/// One VM's.
#[derive(Debug)]
pub(crate) struct Bed(PathBuf);

impl Bed {
    pub(crate) fn of(home: &Path, id: &VmId) -> Self {
        Self(home.join(FOLDER).join(id.as_str()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn template(&self) -> PathBuf {
        self.0.join(TEMPLATE)
    }

    /// Makes it, empty, with room for a machine of that much memory, in bytes.
    pub(crate) fn make(&self, memory: u64) -> Result<(), Cause> {
        let bytes = memory + BESIDE;
        let make = || {
            remove(&self.0)?;
            DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
            let disk = statvfs(&self.0)?;
            Ok::<_, io::Error>(disk.f_bavail * disk.f_frsize)
        };
        let free = make().map_err(|error| self.cause(&error))?;
        if free >= bytes + KEPT {
            return Ok(());
        }
        self.leave();
        let [free, bytes, kept] = [free, bytes, KEPT].map(|bytes| bytes >> 20);
        let why = format!("{free} MiB are free, it may need {bytes}, and {kept} are kept");
        Err(self.cause(&io::Error::new(io::ErrorKind::StorageFull, why)))
    }

    /// What is there beside a template's files, in bytes. Holes are none.
    pub(crate) fn bytes(&self) -> u64 {
        bytes(&self.0)
    }

    /// What is there of a template's files.
    pub(crate) fn template_bytes(&self) -> u64 {
        bytes(&self.template())
    }

    fn cause(&self, error: &io::Error) -> Cause {
        let message = format!("failed to suspend a VM to {}: {error}", self.0.display());
        Cause::new(CauseKind::Machine, message)
    }

    /// Nothing is left of it.
    pub(crate) fn leave(&self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "clean-up");
        }
    }

    /// Removes those that are of none of these.
    pub(crate) fn sweep(home: &Path, alive: &[VmId]) {
        let Ok(beds) = fs::read_dir(home.join(FOLDER)) else { return };
        for bed in beds.flatten() {
            if !alive.iter().any(|id| bed.file_name() == id.as_str()) {
                Self(bed.path()).leave();
            }
        }
    }
}

/// What the files of a folder take on the disk.
fn bytes(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = files.filter_map(|file| file.metadata().ok()).filter(fs::Metadata::is_file);
    files.map(|file| file.blocks() * 512).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bed_is_private_empty_and_large_enough_or_not_there() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let bed = Bed::of(home.path(), &VmId::random());
        bed.make(1 << 20).unwrap();
        fs::write(bed.path().join("state"), "old").unwrap();
        bed.make(1 << 20).unwrap();
        assert_eq!(fs::read_dir(bed.path()).unwrap().count(), 0);
        assert_eq!(fs::metadata(bed.path()).unwrap().permissions().mode() & 0o777, 0o700);
        let cause = bed.make(1 << 60).unwrap_err();
        assert!(cause.message.contains("MiB are free, it may need"), "{cause}");
        assert!(!bed.path().exists());
    }

    #[test]
    fn what_a_bed_takes_is_told_without_holes_and_apart_from_its_template() {
        let home = tempfile::tempdir().unwrap();
        let bed = Bed::of(home.path(), &VmId::random());
        assert_eq!((bed.bytes(), bed.template_bytes()), (0, 0));
        bed.make(0).unwrap();
        fs::create_dir(bed.template()).unwrap();
        let write = |path: PathBuf, bytes| fs::write(path, vec![7; bytes]).unwrap();
        write(bed.path().join("changes"), 3 << 20);
        write(bed.template().join("memory"), 5 << 20);
        let hole = fs::File::create(bed.path().join("memory")).unwrap();
        hole.set_len(1 << 30).unwrap();
        let mib = |bytes: u64| bytes >> 20;
        assert_eq!((mib(bed.bytes()), mib(bed.template_bytes())), (3, 5));
    }

    #[test]
    fn beds_of_nobody_are_swept() {
        let home = tempfile::tempdir().unwrap();
        let ids = [VmId::random(), VmId::random()];
        for id in &ids {
            Bed::of(home.path(), id).make(0).unwrap();
        }
        Bed::sweep(home.path(), &ids[..1]);
        assert!(Bed::of(home.path(), &ids[0]).path().exists());
        assert!(!Bed::of(home.path(), &ids[1]).path().exists());
    }
}
