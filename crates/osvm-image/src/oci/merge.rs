//! Layers, one over the other, as one tree in memory. Nothing is ever looked up on the host.
//!
//! The rules are those of the OCI image specification ("Image Layer Filesystem Changeset"): a name
//! takes the place of the same name below it, two folders become one, `.wh.NAME` hides a name of
//! lower layers, and `.wh..wh..opq` all that lower layers have in a folder. As overlay file systems
//! write them, character devices 0/0 are whiteouts, too.
//!
//! Folders on the way to a name may be symbolic links: they are followed within the tree, as
//! container runtimes follow them within the root.

mod folders;
mod names;
mod rootfs;

use std::collections::BTreeMap;
use std::path::PathBuf;

use thiserror::Error;

use self::names::{Name, Names};
use super::tar::{Bytes, Entry, Kind as EntryKind};
use super::{Limits, OciError, Spool, TarError};
use crate::disk::tree::{Stat, Xattr};
pub(super) use rootfs::Rootfs;

/// Why a name of a layer can't become part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    #[error("its name leads out of the image")]
    Outside,
    #[error("its name is too long, or holds a zero byte")]
    Long,
    #[error("it is a symbolic link to no path that Linux has")]
    Target,
    #[error("it lies too deep")]
    Deep,
    #[error("it is a {0}")]
    Special(&'static str),
    #[error("it lies below a file")]
    NotAFolder,
    #[error("the symbolic links on its way lead nowhere")]
    Loop,
    #[error("it is a hard link to {0}")]
    Link(&'static str),
    #[error("it is the root, and no folder")]
    Root,
}

/// What is in the layers so far.
pub(super) struct Merged {
    inodes: Vec<Inode>,
    layer: u16,
    used: Used,
    limits: Limits,
}

/// What names stand for.
struct Inode {
    stat: Stat,
    xattrs: Box<[Xattr]>,
    kind: Kind,
}

enum Kind {
    Folder(Folder),
    File(Bytes),
    Symlink(Box<[u8]>),
}

/// Place of an inode.
type Id = u32;

const ROOT: Id = 0;

#[derive(Default)]
struct Folder {
    held: BTreeMap<Box<[u8]>, Held>,
    /// The last layer that hid all that lower ones have here.
    opaque: u16,
}

/// A name in a folder.
#[derive(Clone, Copy)]
struct Held {
    inode: Id,
    /// The last layer that has it.
    layer: u16,
}

/// Counted against the limits.
#[derive(Default)]
struct Used {
    entries: u64,
    memory: u64,
    bytes: u64,
}

impl Merged {
    pub(super) fn new(limits: Limits) -> Self {
        let kind = Kind::Folder(Folder::default());
        let stat = Stat { mode: 0o755, ..Stat::default() };
        let root = Inode { stat, xattrs: Box::default(), kind };
        Self { inodes: vec![root], layer: 0, used: Used::default(), limits }
    }

    /// Puts the next layer over those that are there. Tells whether its archive said that it is whole.
    pub(super) fn add(&mut self, layer: &Layer<'_>) -> Result<bool, OciError> {
        self.layer += 1;
        let broken = |source: TarError| OciError::Layer { layer: layer.name.to_owned(), source };
        let mut archive = layer.spool.archive(layer.range.clone()).map_err(broken)?;
        while let Some(entry) = archive.next().map_err(broken)? {
            self.count(&entry)?;
            let name = PathBuf::from(String::from_utf8_lossy(&entry.name).into_owned());
            let put = self.put(entry);
            put.map_err(|source| OciError::Name { layer: layer.name.to_owned(), name, source })?;
        }
        Ok(archive.ended())
    }

    /// Puts a file of the root over whatever is there.
    pub(super) fn put_file(
        &mut self,
        name: &str,
        bytes: &[u8],
        spool: &mut Spool,
    ) -> Result<(), OciError> {
        let from = Bytes::From(spool.end());
        spool.put(bytes)?;
        let stat = Stat { mode: 0o644, size: bytes.len() as u64, ..Stat::default() };
        let inode = Inode { stat, xattrs: Box::default(), kind: Kind::File(from) };
        let inode = self.add_inode(inode);
        self.name(ROOT, name.as_bytes(), inode);
        Ok(())
    }

    /// Takes a name of the root out of the layers so far.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), NameError> {
        self.layer += 1;
        self.hide(&[], name.as_bytes())
    }

    /// What a file of the root holds, up to a limit; nothing when there is no such file.
    pub(super) fn read_file(
        &self,
        name: &str,
        spool: &Spool,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, OciError> {
        let inode = self.held(ROOT, name.as_bytes()).map(|held| &self.inodes[held.inode as usize]);
        let Some(Inode { kind: Kind::File(Bytes::From(from)), stat, .. }) = inode else {
            return Ok(None);
        };
        self.limits.hold(stat.size, limit, "bytes of configuration")?;
        let mut bytes = vec![0; usize::try_from(stat.size).expect("it was bounded")];
        let read = spool.read(&mut bytes, *from);
        read.map_err(|source| OciError::Blob { what: name.to_owned(), source })?;
        Ok(Some(bytes))
    }

    fn count(&mut self, entry: &Entry) -> Result<(), OciError> {
        let (parts, bytes) = match &entry.kind {
            EntryKind::File(place) => match &place.bytes {
                Bytes::Parts(parts) => (parts.len() as u64, place.size),
                Bytes::From(_) => (0, 0),
            },
            _ => (0, 0),
        };
        let target = match &entry.kind {
            EntryKind::Symlink(target) => target.len(),
            _ => 0,
        };
        let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.used.entries += 1;
        self.used.memory += (entry.name.len() + target + xattrs) as u64 + parts * PART_MEMORY;
        self.used.bytes = self.used.bytes.saturating_add(bytes);
        self.limits.hold(self.used.entries, self.limits.entries, "names")?;
        self.limits.hold(self.used.memory, self.limits.memory, "bytes of names and attributes")?;
        self.limits.hold(self.used.bytes, self.limits.bytes, "bytes in sparse files")
    }

    fn put(&mut self, mut entry: Entry) -> Result<(), NameError> {
        let path = std::mem::take(&mut entry.name);
        let names = Names::parse(&path)?;
        let Some((last, above)) = names.split_last() else {
            return self.put_root(entry);
        };
        match Name::of(last)? {
            _ if names.is_metadata() => Ok(()),
            Name::Opaque => self.hide_all(above),
            Name::Whiteout(hidden) => self.hide(above, hidden),
            Name::Plain(name) if entry.kind == WHITEOUT => self.hide(above, name),
            Name::Plain(name) => self.put_at(above, name, entry, names.is_below_dev()),
        }
    }

    fn put_root(&mut self, entry: Entry) -> Result<(), NameError> {
        if entry.kind != EntryKind::Folder {
            return Err(NameError::Root);
        }
        let root = &mut self.inodes[ROOT as usize];
        (root.stat, root.xattrs) = (stat(&entry), entry.xattrs.into());
        Ok(())
    }

    fn put_at(
        &mut self,
        above: &[&[u8]],
        name: &[u8],
        entry: Entry,
        below_dev: bool,
    ) -> Result<(), NameError> {
        let stat = stat(&entry);
        let kind = match entry.kind {
            EntryKind::Folder => return self.put_folder(above, name, stat, entry.xattrs.into()),
            EntryKind::Link(target) => return self.put_link(above, name, &target),
            EntryKind::File(place) => Kind::File(place.bytes),
            EntryKind::Symlink(target) if !names::is_target(&target) => {
                return Err(NameError::Target);
            }
            EntryKind::Symlink(target) => Kind::Symlink(target.into()),
            // The guest has its own devices over whatever an image has there.
            _ if below_dev => return Ok(()),
            EntryKind::Character(..) | EntryKind::Block => {
                return Err(NameError::Special("device"));
            }
            EntryKind::Pipe => return Err(NameError::Special("named pipe")),
        };
        let folder = self.make_folder(above)?;
        let inode = self.add_inode(Inode { stat, xattrs: entry.xattrs.into(), kind });
        self.name(folder, name, inode);
        Ok(())
    }

    /// What the folder holds already stays; what is no folder gives way.
    fn put_folder(
        &mut self,
        above: &[&[u8]],
        name: &[u8],
        stat: Stat,
        xattrs: Box<[Xattr]>,
    ) -> Result<(), NameError> {
        let folder = self.make_folder(above)?;
        let inode = match self.held(folder, name) {
            Some(held) if self.folder(held.inode).is_some() => held.inode,
            _ => self.add_folder(),
        };
        (self.inodes[inode as usize].stat, self.inodes[inode as usize].xattrs) = (stat, xattrs);
        self.name(folder, name, inode);
        Ok(())
    }

    /// The other name is one of the merged tree, of whichever layer.
    fn put_link(&mut self, above: &[&[u8]], name: &[u8], target: &[u8]) -> Result<(), NameError> {
        let target = target.strip_prefix(b"/").unwrap_or(target);
        let target = Names::parse(target)?;
        let (last, way) = target.split_last().ok_or(NameError::Link("the root"))?;
        let found = self.find_folder(way)?.and_then(|folder| self.held(folder, last));
        let inode = found.ok_or(NameError::Link("nothing"))?.inode;
        if self.folder(inode).is_some() {
            return Err(NameError::Link("a folder"));
        }
        let folder = self.make_folder(above)?;
        self.name(folder, name, inode);
        Ok(())
    }

    fn hide_all(&mut self, folder: &[&[u8]]) -> Result<(), NameError> {
        if let Some(folder) = self.find_folder(folder)? {
            self.hide_lower(folder);
        }
        Ok(())
    }

    fn hide(&mut self, above: &[&[u8]], name: &[u8]) -> Result<(), NameError> {
        let Some(folder) = self.find_folder(above)? else { return Ok(()) };
        let Some(held) = self.held(folder, name) else { return Ok(()) };
        if !self.stays(held) {
            self.folder_mut(folder).held.remove(name);
        }
        Ok(())
    }

    /// Hides what lower layers have in a folder, once a layer.
    fn hide_lower(&mut self, id: Id) {
        let layer = self.layer;
        let folder = self.folder_mut(id);
        if folder.opaque == layer {
            return;
        }
        folder.opaque = layer;
        let mut held = std::mem::take(&mut folder.held);
        held.retain(|_, held| self.stays(*held));
        self.folder_mut(id).held = held;
    }

    /// Whether a hidden name stays all the same, since this layer has it, or something below it.
    fn stays(&mut self, held: Held) -> bool {
        if self.folder(held.inode).is_none() {
            return held.layer == self.layer;
        }
        self.hide_lower(held.inode);
        let empty = self.folder(held.inode).is_none_or(|folder| folder.held.is_empty());
        held.layer == self.layer || !empty
    }
}

/// A layer in the spool.
pub(super) struct Layer<'a> {
    /// In messages.
    pub(super) name: &'a str,
    pub(super) spool: &'a Spool,
    pub(super) range: std::ops::Range<u64>,
}

const WHITEOUT: EntryKind = EntryKind::Character(0, 0);
/// Of a part of a sparse file, in bytes.
const PART_MEMORY: u64 = size_of::<super::tar::Part>() as u64;

fn stat(entry: &Entry) -> Stat {
    let (size, sparse) = match &entry.kind {
        EntryKind::File(place) => (place.size, matches!(place.bytes, Bytes::Parts(_))),
        _ => (0, false),
    };
    let Entry { mode, uid, gid, mtime, .. } = *entry;
    Stat { mode, uid, gid, mtime, size, sparse }
}

#[cfg(test)]
mod tests;
