//! Puts a disk together: contents first, then the tables by which they are found, and at last the
//! superblock, which says where those are.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;

use super::contents::{self, Contents};
use super::data::{Fragment, Written};
use super::inode::{self, Common, Listed, Name};
use super::metadata::{self, Place, Stream};
use super::owners::Owners;
use super::tree::{Kind, Node, Tree};
use super::xattrs::Xattrs;
use super::{BLOCK, DiskError};

const MAGIC: u32 = 0x7371_7368;
const VERSION: (u16, u16) = (4, 0);
const ZSTD: u16 = 6;
const FLAG_NO_XATTRS: u16 = 0x200;
const SUPERBLOCK: u64 = 96;
const NO_TABLE: u64 = u64::MAX;
/// Disks are made of sectors, and of pages where they are mapped.
const PAGE: u64 = 4096;

/// Writes the disk of `tree` to the empty file `out`.
pub(crate) fn write(tree: &dyn Tree, out: &mut File) -> Result<(), DiskError> {
    out.seek(SeekFrom::Start(SUPERBLOCK)).map_err(DiskError::Write)?;
    let mut out = BufWriter::with_capacity(1 << 20, out);
    let contents = contents::write(tree, &mut out, SUPERBLOCK)?;
    let tables = Index::of(tree, &contents)?.tables(&contents.written);
    let padding =
        vec![0; usize::try_from(tables.end.next_multiple_of(PAGE) - tables.end).expect("a page")];
    out.write_all(&tables.bytes)
        .and_then(|()| out.write_all(&padding))
        .and_then(|()| out.rewind())
        .and_then(|()| out.write_all(&tables.superblock))
        .and_then(|()| out.flush())
        .map_err(DiskError::Write)
}

/// Inodes and listings of a whole tree.
struct Index<'a> {
    tree: &'a dyn Tree,
    inodes: Stream,
    listings: Stream,
    owners: Owners,
    xattrs: Xattrs,
    /// Where the inode of each node is, as far as it is written.
    places: Vec<Place>,
    count: u32,
}

/// Everything behind the contents, and what finds it.
struct Tables {
    bytes: Vec<u8>,
    end: u64,
    superblock: Vec<u8>,
}

impl<'a> Index<'a> {
    /// Files first and then folders from the last to the first, since a folder's listing says where
    /// the inodes of all that it holds are.
    fn of(tree: &'a dyn Tree, contents: &Contents) -> Result<Self, DiskError> {
        let nodes = tree.nodes();
        let mut index = Self {
            tree,
            inodes: Stream::default(),
            listings: Stream::default(),
            owners: Owners::default(),
            xattrs: Xattrs::default(),
            places: vec![Place::default(); nodes.len()],
            count: u32::try_from(nodes.len()).map_err(|_| DiskError::TooMany)?,
        };
        index.put_leaves(contents)?;
        for (at, node) in nodes.iter().enumerate().rev() {
            if let Kind::Folder(held) = &node.kind {
                let names: Vec<_> = held.clone().map(|at| index.name(at)).collect();
                index.put_folder(at, node, &names)?;
            }
        }
        Ok(index)
    }

    fn put_leaves(&mut self, contents: &Contents) -> Result<(), DiskError> {
        let links = links(self.tree.nodes());
        for (at, node) in self.tree.nodes().iter().enumerate() {
            let inode = match &node.kind {
                Kind::File => {
                    let content = contents.at(at);
                    inode::file(&self.common(at, node)?, node.stat.size, links[at], content)
                }
                Kind::Symlink(target) => inode::symlink(&self.common(at, node)?, target),
                Kind::Folder(_) | Kind::Link(_) => continue,
            };
            self.put(at, &inode)?;
        }
        Ok(())
    }

    fn put_folder(&mut self, at: usize, node: &Node, names: &[Name<'_>]) -> Result<(), DiskError> {
        let listing = inode::listing(names);
        let folders = names.iter().filter(|name| name.kind == inode::FOLDER).count();
        let listed = Listed {
            place: self.listings.place()?,
            size: listing.len(),
            folders: u32::try_from(folders).map_err(|_| DiskError::TooMany)?,
            // The root's own parent is a number that no inode has.
            parent: if at == 0 { self.count + 1 } else { number(node.parent) },
        };
        self.listings.write(&listing);
        let inode = inode::folder(&self.common(at, node)?, &listed);
        self.put(at, &inode)
    }

    fn put(&mut self, at: usize, inode: &[u8]) -> Result<(), DiskError> {
        self.places[at] = self.inodes.place()?;
        self.inodes.write(inode);
        Ok(())
    }

    fn common(&mut self, at: usize, node: &Node) -> Result<Common, DiskError> {
        let (uid, gid) = self.owners.places(&node.stat)?;
        let xattrs = self.tree.xattrs(at);
        let xattrs =
            xattrs.map_err(|source| DiskError::Read { path: self.tree.path(at), source })?;
        Ok(Common {
            permissions: node.stat.mode,
            uid,
            gid,
            mtime: u32::try_from(node.stat.mtime.max(0)).unwrap_or(u32::MAX),
            number: number(at),
            xattrs: self.xattrs.place(&xattrs)?,
        })
    }

    fn name(&self, at: usize) -> Name<'a> {
        let node = &self.tree.nodes()[at];
        let (kind, inode) = match node.kind {
            Kind::Folder(_) => (inode::FOLDER, at),
            Kind::File => (inode::FILE, at),
            Kind::Symlink(_) => (inode::SYMLINK, at),
            Kind::Link(first) => (inode::FILE, first),
        };
        let place = self.places[inode];
        Name { name: node.name.as_bytes(), kind, number: number(inode), place }
    }

    fn tables(self, written: &Written) -> Tables {
        let start = written.end;
        let root = self.places[0].reference();
        let mut bytes = self.inodes.finish();
        let listings = start + bytes.len() as u64;
        bytes.extend(self.listings.finish());
        let mut put = |table: &[u8]| {
            let (packed, found_at) = metadata::table(table, start + bytes.len() as u64);
            bytes.extend(packed);
            found_at
        };
        let fragments = put(&fragment_entries(&written.fragments));
        let owners = put(&self.owners.entries());
        let xattrs = self.xattrs.table(start + bytes.len() as u64);
        bytes.extend(xattrs.iter().flat_map(|table| &table.bytes));
        let end = start + bytes.len() as u64;
        let flags = if xattrs.is_some() { 0 } else { FLAG_NO_XATTRS };
        let xattrs = xattrs.map_or(NO_TABLE, |table| table.found_at);
        let counts = [self.count, fragment_count(written)];
        let mut superblock = head(counts, flags, self.owners.count());
        for field in [root, end, owners, xattrs, start, listings, fragments, NO_TABLE] {
            superblock.extend(field.to_le_bytes());
        }
        Tables { bytes, end, superblock }
    }
}

/// The superblock as far as it does not say where something is.
fn head([inodes, fragments]: [u32; 2], flags: u16, owners: u16) -> Vec<u8> {
    let block = u32::try_from(BLOCK).expect("blocks are small");
    let log = u16::try_from(BLOCK.trailing_zeros()).expect("less than 64");
    let mut head = Vec::new();
    // Made at no time, so that the same folder gives the same bytes.
    for field in [MAGIC, inodes, 0, block, fragments] {
        head.extend(field.to_le_bytes());
    }
    for field in [ZSTD, log, flags, owners, VERSION.0, VERSION.1] {
        head.extend(field.to_le_bytes());
    }
    head
}

/// How many names each file has in the tree.
fn links(nodes: &[Node]) -> Vec<u32> {
    let mut links = vec![1; nodes.len()];
    for node in nodes {
        if let Kind::Link(first) = node.kind {
            links[first] += 1;
        }
    }
    links
}

/// Inodes are numbered from one.
fn number(at: usize) -> u32 {
    u32::try_from(at + 1).expect("the count was checked")
}

fn fragment_count(written: &Written) -> u32 {
    u32::try_from(written.fragments.len()).expect("fewer than files")
}

fn fragment_entries(fragments: &[Fragment]) -> Vec<u8> {
    let entry = |fragment: &Fragment| {
        let mut entry = fragment.start.to_le_bytes().to_vec();
        entry.extend(fragment.size.to_le_bytes());
        entry.extend([0; 4]);
        entry
    };
    fragments.iter().flat_map(entry).collect()
}
