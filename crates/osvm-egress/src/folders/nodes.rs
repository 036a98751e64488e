//! What the guest knows of the folder: nodes, which it has looked up and not forgotten, and handles, which it
//! has opened and not released. Each holds a descriptor, so there are no more than the process may have.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::fuse::ROOT;
use super::zone::Zone;

/// A file of the host's, held by a descriptor that neither reads nor writes: its name may change or go.
#[derive(Debug)]
pub(super) struct Node {
    file: OwnedFd,
    pub(super) kind: FileType,
    identity: Identity,
    zone: AtomicU8,
    /// As it was when the guest last opened it.
    opened_as: Mutex<Option<Version>>,
}

/// One file, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
}

/// Changes with the file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    modified: (i64, u64),
    changed: (i64, u64),
    size: i64,
}

impl Node {
    pub(super) fn new(file: OwnedFd, stat: &Stat, zone: Zone) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let identity = Identity { device: stat.st_dev, inode: stat.st_ino };
        let zone = AtomicU8::new(zone.for_kind(kind) as u8);
        Self { file, kind, identity, zone, opened_as: Mutex::default() }
    }

    /// The strictest it was seen in.
    pub(super) fn zone(&self) -> Zone {
        Zone::from_number(self.zone.load(Ordering::SeqCst))
    }

    pub(super) fn seen_in(&self, zone: Zone) {
        self.zone.fetch_max(zone.for_kind(self.kind) as u8, Ordering::SeqCst);
    }

    /// Whether what was read of it before still holds. `settled` says that whatever changes it from now on
    /// changes its version too.
    pub(super) fn opened(&self, version: Version, settled: bool) -> bool {
        let mut last = locked(&self.opened_as);
        let is_same = *last == Some(version);
        *last = settled.then_some(version);
        is_same
    }
}

impl AsFd for Node {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Version {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            size: stat.st_size,
        }
    }
}

#[derive(Debug)]
pub(super) struct Nodes {
    root: Arc<Node>,
    known: Mutex<Known>,
    most: usize,
}

#[derive(Debug, Default)]
struct Known {
    by_number: HashMap<u64, Lookups>,
    by_identity: HashMap<Identity, u64>,
    last: u64,
}

#[derive(Debug)]
struct Lookups {
    node: Arc<Node>,
    count: u64,
}

impl Nodes {
    pub(super) fn new(root: Node, most: usize) -> Self {
        let known = Known { last: ROOT, ..Known::default() };
        Self { root: Arc::new(root), known: Mutex::new(known), most }
    }

    pub(super) fn get(&self, number: u64) -> Result<Arc<Node>, Errno> {
        if number == ROOT {
            return Ok(Arc::clone(&self.root));
        }
        let known = locked(&self.known);
        known.by_number.get(&number).map(|found| Arc::clone(&found.node)).ok_or(Errno::STALE)
    }

    /// The number of that file, which counts as looked up once more.
    pub(super) fn enter(&self, node: Node) -> Result<u64, Errno> {
        let zone = node.zone();
        if node.identity == self.root.identity {
            return Ok(ROOT);
        }
        let known = &mut *locked(&self.known);
        if let Some(&number) = known.by_identity.get(&node.identity)
            && let Some(found) = known.by_number.get_mut(&number)
        {
            found.count += 1;
            found.node.seen_in(zone);
            return Ok(number);
        }
        if known.by_number.len() >= self.most {
            return Err(Errno::NFILE);
        }
        known.last += 1;
        known.by_identity.insert(node.identity, known.last);
        known.by_number.insert(known.last, Lookups { node: Arc::new(node), count: 1 });
        Ok(known.last)
    }

    pub(super) fn forget(&self, number: u64, count: u64) {
        let known = &mut *locked(&self.known);
        let Entry::Occupied(mut found) = known.by_number.entry(number) else { return };
        found.get_mut().count = found.get().count.saturating_sub(count);
        if found.get().count == 0 {
            let gone = found.remove();
            known.by_identity.remove(&gone.node.identity);
        }
    }

    /// The strictest that this file was seen in, if it is known.
    pub(super) fn zone_of(&self, stat: &Stat) -> Option<Zone> {
        let known = locked(&self.known);
        let identity = Identity { device: stat.st_dev, inode: stat.st_ino };
        let number = known.by_identity.get(&identity)?;
        known.by_number.get(number).map(|found| found.node.zone())
    }

    pub(super) fn clear(&self) {
        let known = &mut *locked(&self.known);
        known.by_number.clear();
        known.by_identity.clear();
    }

    /// Whether those that may still come are better kept for what the guest asks for by name.
    pub(super) fn are_scarce(&self) -> bool {
        locked(&self.known).by_number.len() >= self.most / 4 * 3
    }
}

/// An open file or folder.
#[derive(Debug)]
pub(super) struct Handle {
    file: OwnedFd,
    /// Held while a folder is read: where it is read lies in the descriptor.
    pub(super) listing: Mutex<()>,
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[derive(Debug)]
pub(super) struct Handles {
    open: Mutex<Open>,
    most: usize,
}

#[derive(Debug, Default)]
struct Open {
    by_number: HashMap<u64, Arc<Handle>>,
    last: u64,
}

impl Handles {
    pub(super) fn new(most: usize) -> Self {
        Self { open: Mutex::default(), most }
    }

    pub(super) fn get(&self, number: u64) -> Result<Arc<Handle>, Errno> {
        locked(&self.open).by_number.get(&number).cloned().ok_or(Errno::BADF)
    }

    pub(super) fn add(&self, file: OwnedFd) -> Result<u64, Errno> {
        let open = &mut *locked(&self.open);
        if open.by_number.len() >= self.most {
            return Err(Errno::NFILE);
        }
        open.last += 1;
        let handle = Handle { file, listing: Mutex::default() };
        open.by_number.insert(open.last, Arc::new(handle));
        Ok(open.last)
    }

    pub(super) fn release(&self, number: u64) {
        locked(&self.open).by_number.remove(&number);
    }

    pub(super) fn clear(&self) {
        locked(&self.open).by_number.clear();
    }
}

/// What is behind these locks holds together between any two statements, so a panic has broken nothing.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
