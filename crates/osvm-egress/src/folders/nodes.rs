//! What the guest knows of the folder: nodes, which it has looked up and not forgotten, and handles, which it
//! has opened and not released.
//!
//! ```text
//! known -- looked up --> held by a descriptor -- others need it --> known by its way
//!                                  ^------------- used again ---------------'
//! ```
//!
//! A guest's kernel keeps as many nodes as its memory holds, which may be more than this process may have
//! descriptors. Those that were not used of late are let go, unless they are in use or have lost their name, and
//! found again under the name they were last seen by: if that is still the same file, and else not.

mod handles;
mod known;

use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;

use super::found::Found;
use super::fuse::ROOT;
use super::zone::Zone;
pub(super) use handles::{Handle, Handles};
use known::Known;

/// How deep below what is held a node is found again.
const DEEPEST: usize = 4096;

/// A file of the host's, held by a descriptor that neither reads nor writes: its name may change or go.
#[derive(Debug)]
pub(super) struct Node {
    file: Mutex<Option<Arc<OwnedFd>>>,
    used: AtomicBool,
    way: Mutex<Way>,
    pub(super) kind: FileType,
    identity: Identity,
    zone: AtomicU8,
    /// As it was when the guest last opened it.
    opened_as: Mutex<Option<Version>>,
}

/// Where a node was last seen.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) parent: u64,
    pub(super) name: Box<[u8]>,
}

/// A node in use: its descriptor stays meanwhile.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) number: u64,
    node: Arc<Node>,
    file: Arc<OwnedFd>,
}

/// One file, whatever it is called. A number may be used again for a file of another kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    device: u64,
    inode: u64,
    kind: u32,
}

/// Changes with the file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    modified: (i64, u64),
    changed: (i64, u64),
    size: i64,
}

impl Node {
    pub(super) fn new(file: OwnedFd, stat: &Stat, zone: Zone, way: Way) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        let zone = AtomicU8::new(zone.for_kind(kind) as u8);
        Self {
            file: Mutex::new(Some(Arc::new(file))),
            used: AtomicBool::new(true),
            way: Mutex::new(way),
            kind,
            identity: Identity::of(stat),
            zone,
            opened_as: Mutex::default(),
        }
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

    fn held(&self) -> Option<Arc<OwnedFd>> {
        self.used.store(true, Ordering::Relaxed);
        locked(&self.file).clone()
    }

    fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Whether its descriptor is closed now: not while anybody uses it, nor when it could not be found again.
    fn let_go(&self) -> bool {
        let mut file = locked(&self.file);
        let is_free =
            file.as_ref().is_none_or(|file| Arc::strong_count(file) == 1 && has_name(file));
        if is_free {
            *file = None;
        }
        is_free
    }
}

fn has_name(file: &OwnedFd) -> bool {
    fstat(file).is_ok_and(|stat| stat.st_nlink > 0)
}

impl Deref for Held {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode).as_raw_mode();
        Self { device: stat.st_dev, inode: stat.st_ino, kind }
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

/// Most that are known, and most that are held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    pub(super) known: usize,
    pub(super) held: usize,
}

#[derive(Debug)]
pub(super) struct Nodes {
    root: Held,
    known: Mutex<Known>,
    most: Most,
}

impl Nodes {
    pub(super) fn new(root: OwnedFd, stat: &Stat, most: Most) -> Self {
        let way = Way { parent: ROOT, name: Box::default() };
        let node = Node::new(root, stat, Zone::Plain, way);
        let file = node.held().expect("it was opened just now");
        let root = Held { number: ROOT, node: Arc::new(node), file };
        Self { root, known: Mutex::new(Known::new(ROOT)), most }
    }

    pub(super) fn get(&self, number: u64) -> Result<Held, Errno> {
        let node = self.node(number)?;
        match node.held() {
            Some(file) => Ok(Held { number, node, file }),
            None => self.find_again(number, node),
        }
    }

    fn node(&self, number: u64) -> Result<Arc<Node>, Errno> {
        if number == ROOT {
            return Ok(Arc::clone(&self.root.node));
        }
        locked(&self.known).get(number).ok_or(Errno::STALE)
    }

    /// Up to a folder that is held, and down again.
    fn find_again(&self, number: u64, node: Arc<Node>) -> Result<Held, Errno> {
        let mut lost = vec![(number, node)];
        let mut at = loop {
            let parent = locked(&lost.last().ok_or(Errno::STALE)?.1.way).parent;
            let node = self.node(parent)?;
            match node.held() {
                Some(file) => break Held { number: parent, node, file },
                None if lost.len() < DEEPEST => lost.push((parent, node)),
                None => return Err(Errno::STALE),
            }
        };
        for (number, node) in lost.into_iter().rev() {
            let file = self.find_in(&at, number, &node)?;
            at = Held { number, node, file };
        }
        Ok(at)
    }

    fn find_in(&self, parent: &Held, number: u64, node: &Node) -> Result<Arc<OwnedFd>, Errno> {
        let name = locked(&node.way).name.clone();
        let found = Found::find(parent, &name).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => Errno::STALE,
            errno => errno,
        })?;
        if Identity::of(&found.stat) != node.identity {
            return Err(Errno::STALE);
        }
        locked(&self.known).hold(number, node, found.file, self.most.held)
    }

    /// The number of that file, which counts as looked up once more.
    pub(super) fn enter(&self, new: Node) -> Result<u64, Errno> {
        if new.identity == self.root.identity {
            return Ok(ROOT);
        }
        locked(&self.known).enter(new, self.most)
    }

    /// It is found under another name from now on.
    pub(super) fn moved(&self, stat: &Stat, way: Way) {
        if let Some(node) = locked(&self.known).find(Identity::of(stat)) {
            *locked(&node.way) = way;
        }
    }

    pub(super) fn forget(&self, number: u64, count: u64) {
        locked(&self.known).forget(number, count);
    }

    /// The strictest that this file was seen in, if it is known.
    pub(super) fn zone_of(&self, stat: &Stat) -> Option<Zone> {
        locked(&self.known).find(Identity::of(stat)).map(|node| node.zone())
    }

    pub(super) fn clear(&self) {
        locked(&self.known).clear();
    }

    /// Whether those that may still come are better kept for what the guest asks for by name.
    pub(super) fn are_scarce(&self) -> bool {
        locked(&self.known).len() >= self.most.known / 4 * 3
    }
}

/// What is behind these locks holds together between any two statements, so a panic has broken nothing.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
