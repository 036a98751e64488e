//! Names: looked up, made, moved and removed.

use std::os::fd::AsRawFd;
use std::sync::{PoisonError, RwLockReadGuard};

use rustix::fs::{
    AtFlags, FileType, Mode, RenameFlags, Stat, linkat, mkdirat, mknodat, readlinkat,
    renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::Lent;
use crate::folders::found::Found;
use crate::folders::fuse::Answer;
use crate::folders::guard::{Place, Thing};
use crate::folders::nodes::{Held, Node, Way};

impl Lent {
    pub(super) fn look_up(&self, parent: u64, name: &[u8]) -> Result<Answer, Errno> {
        self.entered(&self.nodes.get(parent)?, name)
    }

    fn entered(&self, parent: &Held, name: &[u8]) -> Result<Answer, Errno> {
        Ok(Answer::entry(&self.entry(&self.enter(parent, name)?)))
    }

    /// The node under that name, which counts as looked up.
    pub(super) fn enter(&self, parent: &Held, name: &[u8]) -> Result<(u64, Stat), Errno> {
        self.enter_found(Found::find(parent, name)?, parent, name)
    }

    pub(super) fn enter_found(
        &self,
        found: Found,
        parent: &Held,
        name: &[u8],
    ) -> Result<(u64, Stat), Errno> {
        let zone = self.guard.zone(place(parent, name));
        let node = Node::new(found.file, &found.stat, zone, way(parent, name));
        Ok((self.nodes.enter(node)?, found.stat))
    }

    pub(super) fn read_link(&self, node: u64) -> Result<Answer, Errno> {
        let node = self.nodes.get(node)?;
        if node.kind != FileType::Symlink {
            return Err(Errno::INVAL);
        }
        let target = readlinkat(&node, "", Vec::new())?;
        Ok(Answer::bytes(target.as_bytes()))
    }

    /// Its target is text: whoever follows it decides where it leads.
    pub(super) fn make_symlink(
        &self,
        parent: u64,
        name: &[u8],
        target: &[u8],
    ) -> Result<Answer, Errno> {
        self.make(parent, name, FileType::Symlink, |parent| symlinkat(target, parent, name))
    }

    /// A socket is a mere name to the host, where nobody listens behind it. A pipe would hold up whoever opens
    /// it there, and a device is what its number says.
    pub(super) fn make_node(&self, parent: u64, name: &[u8], mode: u32) -> Result<Answer, Errno> {
        let kind = FileType::from_raw_mode(mode);
        if !matches!(kind, FileType::RegularFile | FileType::Socket) {
            self.guard.may_change_anything()?;
            return Err(Errno::PERM);
        }
        let mode = Mode::from_raw_mode(mode & 0o777);
        self.make(parent, name, kind, |parent| mknodat(parent, name, kind, mode, 0))
    }

    pub(super) fn make_folder(
        &self,
        parent: u64,
        name: &[u8],
        mode: Mode,
    ) -> Result<Answer, Errno> {
        self.make(parent, name, FileType::Directory, |parent| mkdirat(parent, name, mode))
    }

    fn make(
        &self,
        parent: u64,
        name: &[u8],
        kind: FileType,
        made: impl FnOnce(&Held) -> Result<(), Errno>,
    ) -> Result<Answer, Errno> {
        let parent = self.nodes.get(parent)?;
        self.guard.may_make(place(&parent, name), kind)?;
        let _names = self.among_others();
        made(&parent)?;
        self.entered(&parent, name)
    }

    pub(super) fn remove(
        &self,
        parent: u64,
        name: &[u8],
        is_folder: bool,
    ) -> Result<Answer, Errno> {
        let parent = self.nodes.get(parent)?;
        self.guard.may_remove(place(&parent, name))?;
        let _names = self.among_others();
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        unlinkat(&parent, name, flags)?;
        Ok(Answer::empty())
    }

    /// The node itself is linked, whatever bears its name by now.
    pub(super) fn link(&self, node: u64, parent: u64, name: &[u8]) -> Result<Answer, Errno> {
        let (node, parent) = (self.nodes.get(node)?, self.nodes.get(parent)?);
        let thing = Thing { kind: node.kind, zone: node.zone() };
        self.guard.may_link(thing, place(&parent, name))?;
        let _names = self.among_others();
        let number = rustix::fd::AsFd::as_fd(&node).as_raw_fd().to_string();
        linkat(&self.descriptors, number, &parent, name, AtFlags::SYMLINK_FOLLOW)?;
        self.entered(&parent, name)
    }

    pub(super) fn rename(
        &self,
        (old_parent, old_name): (u64, &[u8]),
        (new_parent, new_name): (u64, &[u8]),
        flags: RenameFlags,
    ) -> Result<Answer, Errno> {
        let (old_parent, new_parent) = (self.nodes.get(old_parent)?, self.nodes.get(new_parent)?);
        let (from, to) = (place(&old_parent, old_name), place(&new_parent, new_name));
        self.guard.may_change_anything()?;
        // What was judged must be what is moved.
        let _alone = self.names.write().unwrap_or_else(PoisonError::into_inner);
        let moved = Found::find(&old_parent, old_name)?;
        self.guard.may_move(self.thing(&moved, from), from, to)?;
        let exchanged = flags.contains(RenameFlags::EXCHANGE);
        let exchanged = exchanged.then(|| Found::find(&new_parent, new_name)).transpose()?;
        if let Some(other) = &exchanged {
            self.guard.may_move(self.thing(other, to), to, from)?;
        }
        renameat_with(&old_parent, old_name, &new_parent, new_name, flags)?;
        self.nodes.moved(&moved.stat, way(&new_parent, new_name));
        if let Some(other) = exchanged {
            self.nodes.moved(&other.stat, way(&old_parent, old_name));
        }
        Ok(Answer::empty())
    }

    fn thing(&self, found: &Found, place: Place<'_>) -> Thing {
        let zone = self.guard.zone(place).for_kind(found.kind());
        let seen = self.nodes.zone_of(&found.stat).unwrap_or(zone);
        Thing { kind: found.kind(), zone: zone.max(seen) }
    }

    pub(super) fn among_others(&self) -> RwLockReadGuard<'_, ()> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn place<'a>(parent: &Node, name: &'a [u8]) -> Place<'a> {
    Place { parent: parent.zone(), name }
}

fn way(parent: &Held, name: &[u8]) -> Way {
    Way { parent: parent.number, name: name.into() }
}
