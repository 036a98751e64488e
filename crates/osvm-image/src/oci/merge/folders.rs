//! The way to a folder, and what folders hold.

use super::names::parts;
use super::{Folder, Held, Id, Inode, Kind, Merged, NameError, ROOT};
use crate::disk::tree::Stat;

/// Symbolic links on one way, as many as Linux follows.
const MAX_LINKS: usize = 40;
/// Folders on one way: what is nested deeper has no path that Linux takes.
const MAX_DEPTH: usize = 1024;

impl Merged {
    /// Nothing when there is no such folder.
    pub(super) fn find_folder(&self, way: &[&[u8]]) -> Result<Option<Id>, NameError> {
        let mut walk = Walk::new(way);
        while let Some(name) = walk.left.pop() {
            match self.held(walk.here(), &name) {
                Some(held) if self.is_file(held.inode) => return Ok(None),
                Some(held) => walk.enter(held.inode, &self.inodes[held.inode as usize].kind)?,
                None => return Ok(None),
            }
        }
        Ok(Some(walk.here()))
    }

    /// The folder, made where there is none.
    pub(super) fn make_folder(&mut self, way: &[&[u8]]) -> Result<Id, NameError> {
        let mut walk = Walk::new(way);
        while let Some(name) = walk.left.pop() {
            let inode = match self.held(walk.here(), &name) {
                Some(held) => held.inode,
                None => {
                    let inode = self.add_folder();
                    self.name(walk.here(), &name, inode);
                    inode
                }
            };
            walk.enter(inode, &self.inodes[inode as usize].kind)?;
        }
        Ok(walk.here())
    }

    pub(super) fn held(&self, folder: Id, name: &[u8]) -> Option<Held> {
        self.folder(folder)?.held.get(name).copied()
    }

    /// Gives an inode a name, which has no other any more.
    pub(super) fn name(&mut self, folder: Id, name: &[u8], inode: Id) {
        let held = Held { inode, layer: self.layer };
        self.folder_mut(folder).held.insert(name.into(), held);
    }

    /// Of this layer alone, so nothing of lower ones is in it.
    pub(super) fn add_folder(&mut self) -> Id {
        let kind = Kind::Folder(Folder { opaque: self.layer, ..Folder::default() });
        let stat = Stat { mode: 0o755, ..Stat::default() };
        self.add_inode(Inode { stat, xattrs: Box::default(), kind })
    }

    pub(super) fn add_inode(&mut self, inode: Inode) -> Id {
        self.inodes.push(inode);
        Id::try_from(self.inodes.len() - 1).expect("names are limited")
    }

    pub(super) fn folder(&self, inode: Id) -> Option<&Folder> {
        match &self.inodes[inode as usize].kind {
            Kind::Folder(folder) => Some(folder),
            _ => None,
        }
    }

    pub(super) fn folder_mut(&mut self, inode: Id) -> &mut Folder {
        match &mut self.inodes[inode as usize].kind {
            Kind::Folder(folder) => folder,
            _ => unreachable!("whoever asks knows that it is a folder"),
        }
    }

    fn is_file(&self, inode: Id) -> bool {
        matches!(self.inodes[inode as usize].kind, Kind::File(_))
    }
}

/// A way through the tree.
struct Walk {
    /// The folders from the root to here.
    trail: Vec<Id>,
    /// Names that are still to go, the next one last.
    left: Vec<Box<[u8]>>,
    links: usize,
}

impl Walk {
    fn new(way: &[&[u8]]) -> Self {
        let left = way.iter().rev().map(|name| Box::from(*name)).collect();
        Self { trail: vec![ROOT], left, links: 0 }
    }

    fn here(&self) -> Id {
        self.trail.last().copied().unwrap_or(ROOT)
    }

    fn enter(&mut self, inode: Id, kind: &Kind) -> Result<(), NameError> {
        match kind {
            Kind::Folder(_) => self.trail.push(inode),
            Kind::Symlink(target) => self.follow(target)?,
            Kind::File(_) => return Err(NameError::NotAFolder),
        }
        // `..` is no name in a folder; the root's own is the root.
        while self.left.pop_if(|name| **name == *b"..").is_some() {
            self.trail.truncate(self.trail.len().saturating_sub(1).max(1));
        }
        if self.trail.len() > MAX_DEPTH { Err(NameError::Deep) } else { Ok(()) }
    }

    fn follow(&mut self, target: &[u8]) -> Result<(), NameError> {
        self.links += 1;
        if self.links > MAX_LINKS || target.is_empty() {
            return Err(NameError::Loop);
        }
        if target.starts_with(b"/") {
            self.trail.truncate(1);
        }
        self.left.extend(parts(target).rev().map(Box::from));
        Ok(())
    }
}
