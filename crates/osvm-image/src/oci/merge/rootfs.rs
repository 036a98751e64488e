//! Merged layers as the tree that a disk is made from.

use std::ffi::OsString;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{Id, Inode, Kind, Merged, ROOT};
use crate::disk::tree::{self, Content, Node, Tree, Xattr, path_below};
use crate::oci::Spool;
use crate::oci::tar::{Bytes, Part};

/// The names of merged layers, and where their contents lie.
pub(in crate::oci) struct Rootfs<'a> {
    nodes: Vec<Node>,
    /// The inode of each node.
    of: Vec<Id>,
    inodes: Vec<Inode>,
    spool: &'a Spool,
}

/// The first node of an inode that had none so far.
const NEVER: u32 = u32::MAX;

impl<'a> Rootfs<'a> {
    pub(in crate::oci) fn new(merged: Merged, spool: &'a Spool) -> Self {
        let inodes = merged.inodes;
        let nodes = Vec::with_capacity(inodes.len());
        let mut seen = vec![NEVER; inodes.len()];
        let mut rootfs = Self { nodes, of: Vec::with_capacity(inodes.len()), inodes, spool };
        rootfs.add(OsString::new(), 0, ROOT, &mut seen);
        let mut next = 0;
        while next < rootfs.nodes.len() {
            if matches!(rootfs.nodes[next].kind, tree::Kind::Folder(_)) {
                let held = rootfs.list(next, &mut seen);
                rootfs.nodes[next].kind = tree::Kind::Folder(held);
            }
            next += 1;
        }
        rootfs
    }

    fn list(&mut self, parent: usize, seen: &mut [u32]) -> Range<usize> {
        let start = self.nodes.len();
        let folder = match &mut self.inodes[self.of[parent] as usize].kind {
            Kind::Folder(folder) => std::mem::take(&mut folder.held),
            _ => unreachable!("only folders are listed"),
        };
        for (name, held) in folder {
            self.add(OsString::from_vec(name.into()), parent, held.inode, seen);
        }
        start..self.nodes.len()
    }

    fn add(&mut self, name: OsString, parent: usize, id: Id, seen: &mut [u32]) {
        let inode = &self.inodes[id as usize];
        let kind = match &inode.kind {
            Kind::Folder(_) => tree::Kind::Folder(0..0),
            Kind::Symlink(target) => tree::Kind::Symlink(target.clone()),
            Kind::File(_) if seen[id as usize] == NEVER => {
                seen[id as usize] = u32::try_from(self.nodes.len()).expect("names are limited");
                tree::Kind::File
            }
            Kind::File(_) => tree::Kind::Link(seen[id as usize] as usize),
        };
        self.nodes.push(Node { name, parent, kind, stat: inode.stat });
        self.of.push(id);
    }
}

impl Tree for Rootfs<'_> {
    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn path(&self, at: usize) -> PathBuf {
        path_below(&self.nodes, at)
    }

    fn open(&self, at: usize) -> io::Result<Box<dyn Content + '_>> {
        let Inode { kind: Kind::File(bytes), stat, .. } = &self.inodes[self.of[at] as usize] else {
            unreachable!("only files are opened");
        };
        Ok(Box::new(Spooled { spool: self.spool, bytes, size: stat.size, at: 0 }))
    }

    fn xattrs(&self, at: usize) -> io::Result<Vec<Xattr>> {
        Ok(self.inodes[self.of[at] as usize].xattrs.to_vec())
    }
}

/// The content of a file, which lies in the spool.
struct Spooled<'a> {
    spool: &'a Spool,
    bytes: &'a Bytes,
    size: u64,
    at: u64,
}

/// What comes next of a content.
enum Next {
    /// From here in the spool.
    Data(u64),
    Hole,
}

impl Spooled<'_> {
    /// What comes next, and how long it is.
    fn next(&self) -> (Next, u64) {
        match self.bytes {
            Bytes::From(start) => (Next::Data(start + self.at), self.size - self.at),
            Bytes::Parts(parts) => match self.part(parts) {
                Some(part) if part.at <= self.at => {
                    let gone = self.at - part.at;
                    (Next::Data(part.from + gone), part.size - gone)
                }
                Some(part) => (Next::Hole, part.at - self.at),
                None => (Next::Hole, self.size - self.at),
            },
        }
    }

    /// The first part that does not lie before here.
    fn part<'p>(&self, parts: &'p [Part]) -> Option<&'p Part> {
        parts.get(parts.partition_point(|part| part.at + part.size <= self.at))
    }
}

impl Read for Spooled<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (next, length) = self.next();
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
        let buffer = &mut buffer[..length];
        match next {
            _ if length == 0 => return Ok(0),
            Next::Data(from) => self.spool.read(buffer, from)?,
            Next::Hole => buffer.fill(0),
        }
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Spooled<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.at = match to {
            SeekFrom::Start(at) if at <= self.size => at,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok(self.at)
    }
}

impl Content for Spooled<'_> {
    fn next_data(&mut self, at: u64) -> io::Result<u64> {
        self.at = at;
        Ok(match self.next() {
            (Next::Hole, length) => at + length,
            (Next::Data(_), _) => at,
        })
    }

    /// Nobody else has the spool.
    fn is_same(&self) -> io::Result<bool> {
        Ok(true)
    }
}
