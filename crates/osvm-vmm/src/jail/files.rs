//! The files a VMM may open, held by Landlock: its program's own, and those it was lent.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use serde::{Deserialize, Serialize};

use crate::memfd;

/// The newest interface that was tried. What an older kernel does not know is left out.
const NEWEST: ABI = ABI::V6;

/// A file or a folder, and what may be done with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lent {
    pub(crate) place: Place,
    pub(crate) access: Access,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Place {
    Path(OsString),
    /// An inherited descriptor, which the program opens again by its name in `/proc`.
    Descriptor(RawFd),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Access {
    Read,
    /// Also to be run, as a program or a library.
    Run,
    /// Also to be written.
    Write,
    /// A device: also to be written and controlled.
    Control,
    /// A folder of its own: also to write and cut off what is in it, and to make sockets.
    Keep,
    /// A folder of the user's: also to make, move and remove files and folders in it, and nothing else.
    Share,
}

impl Lent {
    pub(crate) fn descriptor(fd: RawFd, access: Access) -> Self {
        Self { place: Place::Descriptor(fd), access }
    }

    pub(crate) fn path(path: impl Into<OsString>, access: Access) -> Self {
        Self { place: Place::Path(path.into()), access }
    }
}

/// Puts it on the calling process, for good. It also forbids TCP (Linux 6.7), and signals and
/// abstract sockets to whoever is outside (6.12).
pub(super) fn confine(lent: &[Lent]) -> Result<(), Refused> {
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    let rules = lent.iter().try_fold(rules, allow)?;
    match rules.restrict_self()?.ruleset {
        RulesetStatus::NotEnforced => Err(Refused::Absent),
        _ => Ok(()),
    }
}

/// The same file where other users may read it; else a copy in memory that nobody can change. A user
/// of the VM's own opens it again, and what counts then is the file's mode, not its folders'.
pub(super) fn readable_by_all(file: OwnedFd) -> io::Result<OwnedFd> {
    const READ_BY_OTHERS: u32 = 0o004;
    let mut file = File::from(file);
    if file.metadata()?.mode() & READ_BY_OTHERS != 0 {
        return Ok(file.into());
    }
    let mut copy = memfd::create("osvm-copy")?;
    io::copy(&mut file, &mut copy)?;
    memfd::sealed(copy)
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("{0}")]
    Rules(#[from] RulesetError),
    #[error("{0}")]
    Path(#[from] landlock::PathFdError),
    #[error("{0}")]
    Descriptor(#[from] rustix::io::Errno),
    #[error("this kernel has no Landlock")]
    Absent,
}

fn allow(rules: RulesetCreated, lent: &Lent) -> Result<RulesetCreated, Refused> {
    let access = rights(lent.access);
    Ok(match &lent.place {
        Place::Path(path) => rules.add_rule(PathBeneath::new(PathFd::new(path)?, access))?,
        Place::Descriptor(fd) => {
            // SAFETY: the daemon left this descriptor open for the program.
            let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
            // A copy in memory lies in no folder: Landlock lets it be opened, and knows no rule for it.
            if rustix::fs::fstat(fd)?.st_nlink == 0 {
                return Ok(rules);
            }
            rules.add_rule(PathBeneath::new(fd, access))?
        }
    })
}

/// What does not apply to a file, or to this kernel, is left out by the rule.
fn rights(access: Access) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    match access {
        Access::Read => read,
        Access::Run => read | AccessFs::Execute,
        Access::Write => read | AccessFs::WriteFile,
        Access::Control => read | AccessFs::WriteFile | AccessFs::IoctlDev,
        Access::Keep => read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeSock,
        Access::Share => {
            let make =
                AccessFs::MakeReg | AccessFs::MakeDir | AccessFs::MakeSym | AccessFs::MakeSock;
            let remove = AccessFs::RemoveFile | AccessFs::RemoveDir;
            read | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::Refer | make | remove
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_may_not_read_is_copied_and_any_other_is_not() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"kernel").unwrap();
        for (mode, is_same) in [(0o600, false), (0o604, true)] {
            file.set_permissions(std::fs::Permissions::from_mode(mode)).unwrap();
            file.rewind().unwrap();
            let lent = File::from(readable_by_all(file.try_clone().unwrap().into()).unwrap());
            let inode = |file: &File| file.metadata().unwrap().ino();
            assert_eq!(inode(&lent) == inode(&file), is_same);
            assert_eq!(lent.metadata().unwrap().len(), 6);
            assert_eq!((&lent).write(b"x").is_err(), !is_same);
            file.set_len(6).unwrap();
        }
    }
}
