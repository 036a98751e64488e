//! What the guest may do with the folder it was lent. Pure: decides from access, zones and kinds; whoever
//! asks holds the names still meanwhile.
//!
//! - Read-only: nothing is changed.
//! - Writable: what is protected stays as it is, and no repository, nor what git follows to one, is made,
//!   moved, replaced or removed. A folder moves only where its content keeps its zones; no symbolic link
//!   comes into a repository.
//! - Writable all over: only what holds everywhere else (no devices, no set-user bits) is refused, elsewhere.

use osvm_spec::Access;
use rustix::fs::FileType;
use rustix::io::Errno;

use super::zone::Zone;

#[derive(Debug, Clone, Copy)]
pub(super) struct Guard {
    access: Access,
}

/// A name in a folder, and what bears it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) parent: Zone,
    pub(super) name: &'a [u8],
}

/// What is there already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thing {
    pub(super) kind: FileType,
    /// The strictest it was seen in.
    pub(super) zone: Zone,
}

type Verdict = Result<(), Errno>;

impl Guard {
    pub(super) fn new(access: Access) -> Self {
        Self { access }
    }

    pub(super) fn zone(&self, place: Place<'_>) -> Zone {
        match self.access {
            Access::Rw => place.parent.below(place.name),
            Access::Ro | Access::RwAll => Zone::Plain,
        }
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.access == Access::Ro
    }

    /// Anything that leaves traces.
    pub(super) fn may_change_anything(&self) -> Verdict {
        refuse(self.is_read_only())
    }

    /// Its content, mode, times and attributes.
    pub(super) fn may_write(&self, zone: Zone) -> Verdict {
        self.may_change_anything()?;
        refuse(zone == Zone::Protected)
    }

    pub(super) fn may_make(&self, place: Place<'_>, kind: FileType) -> Verdict {
        self.may_change_anything()?;
        let zone = self.zone(place);
        refuse(is_fixed(zone) || kind == FileType::Symlink && zone != Zone::Plain)
    }

    pub(super) fn may_remove(&self, place: Place<'_>) -> Verdict {
        self.may_change_anything()?;
        refuse(is_fixed(self.zone(place)))
    }

    /// A second name.
    pub(super) fn may_link(&self, thing: Thing, to: Place<'_>) -> Verdict {
        self.may_make(to, thing.kind)?;
        refuse(is_fixed(thing.zone))
    }

    pub(super) fn may_move(&self, thing: Thing, from: Place<'_>, to: Place<'_>) -> Verdict {
        self.may_remove(from)?;
        self.may_link(thing, to)?;
        let (old, new) = (self.zone(from), self.zone(to));
        // What git finds below may be told from its path only.
        let is_told = old != new || new == Zone::Nested;
        refuse(thing.kind == FileType::Directory && is_told)
    }
}

fn is_fixed(zone: Zone) -> bool {
    matches!(zone, Zone::Protected | Zone::Repository)
}

fn refuse(refused: bool) -> Verdict {
    if refused { Err(Errno::ROFS) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
