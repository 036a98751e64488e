//! What a disk is made from: names, what is known of each, and whoever has their contents.

use std::ffi::OsString;
use std::io::{self, Read, Seek};
use std::ops::Range;
use std::path::PathBuf;

/// A folder and everything in it, the folder first and each folder before what it holds.
pub(crate) trait Tree {
    fn nodes(&self) -> &[Node];

    /// The place of a node, in messages.
    fn path(&self, at: usize) -> PathBuf;

    /// What the file at a place holds.
    fn open(&self, at: usize) -> io::Result<Box<dyn Content + '_>>;

    /// Extended attributes of what is at a place, in the order of their names.
    fn xattrs(&self, at: usize) -> io::Result<Vec<Xattr>>;
}

/// The bytes of a file.
pub(crate) trait Content: Read + Seek {
    /// Where the next byte from `at` on is that is not in a hole; the size if there is none.
    fn next_data(&mut self, at: u64) -> io::Result<u64>;

    /// Whether it is still what the tree says.
    fn is_same(&self) -> io::Result<bool>;
}

/// Name and value.
pub(crate) type Xattr = (Box<[u8]>, Box<[u8]>);

/// One name in a folder.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: OsString,
    /// Place of the folder that holds it; the root holds itself.
    pub(crate) parent: usize,
    pub(crate) kind: Kind,
    pub(crate) stat: Stat,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// Places of what it holds, in the order of their names.
    Folder(Range<usize>),
    File,
    /// Where it points.
    Symlink(Box<[u8]>),
    /// Another name of the file at this earlier place.
    Link(usize),
}

/// What is kept of a file besides its content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Permissions, twelve bits.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    pub(crate) size: u64,
    /// Whether it may have holes: all other files need not be asked.
    pub(crate) sparse: bool,
}

/// The names from the root to a place.
pub(crate) fn path_below(nodes: &[Node], mut at: usize) -> PathBuf {
    let mut names = Vec::new();
    while at != 0 {
        names.push(&nodes[at].name);
        at = nodes[at].parent;
    }
    names.into_iter().rev().collect()
}
