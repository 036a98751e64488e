//! What is in a folder, without reading any file: the list that a disk is made from, and by which a
//! folder is recognised that has not changed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::DiskError;

/// A folder and everything in it, the folder first and each folder before what it holds.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    nodes: Vec<Node>,
}

/// One name in a folder.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) name: OsString,
    /// Place of the folder that holds it; the root holds itself.
    pub(super) parent: usize,
    pub(super) kind: Kind,
    pub(super) stat: Metadata,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// Places of what it holds, in the order of their names.
    Folder(Range<usize>),
    File,
    /// Where it points.
    Symlink(Vec<u8>),
    /// Another name of the file at this earlier place.
    Link(usize),
}

impl Tree {
    /// Looks at everything in `root`. What is mounted inside stays out: only its mount point is seen.
    pub(crate) fn scan(root: &Path) -> Result<Self, DiskError> {
        let stat = fs::metadata(root).map_err(DiskError::reading(root))?;
        let kind = Kind::Folder(0..0);
        let first = Node { name: OsString::new(), parent: 0, kind, stat };
        let mut tree = Self { root: root.to_owned(), nodes: vec![first] };
        let mut names = HashMap::new();
        let mut next = 0;
        while next < tree.nodes.len() {
            if matches!(tree.nodes[next].kind, Kind::Folder(_)) && tree.is_inside(next) {
                let start = tree.nodes.len();
                tree.list(next, &mut names)?;
                tree.nodes[next].kind = Kind::Folder(start..tree.nodes.len());
            }
            next += 1;
        }
        Ok(tree)
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn path(&self, mut place: usize) -> PathBuf {
        let mut names = Vec::new();
        while place != 0 {
            names.push(&self.nodes[place].name);
            place = self.nodes[place].parent;
        }
        let mut path = self.root.clone();
        path.extend(names.into_iter().rev());
        path
    }

    /// Changes whenever anything changes that `stat` shows.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for Node { name, parent, stat, .. } in &self.nodes {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update((*parent as u64).to_le_bytes());
            for number in [stat.dev(), stat.ino(), stat.mode().into(), stat.nlink(), stat.size()] {
                hash.update(number.to_le_bytes());
            }
            for number in [stat.uid(), stat.gid()] {
                hash.update(number.to_le_bytes());
            }
            for time in [stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec()] {
                hash.update(time.to_le_bytes());
            }
        }
        hash.finalize().into()
    }

    /// The latest change of anything, in seconds and nanoseconds.
    pub(crate) fn last_change(&self) -> (i64, i64) {
        let changes = self.nodes.iter().map(|node| (node.stat.ctime(), node.stat.ctime_nsec()));
        changes.max().unwrap_or_default()
    }

    fn is_inside(&self, place: usize) -> bool {
        self.nodes[place].stat.dev() == self.nodes[0].stat.dev()
    }

    /// Adds what the folder at `parent` holds. `names` are the files seen that have several names.
    fn list(
        &mut self,
        parent: usize,
        names: &mut HashMap<(u64, u64), usize>,
    ) -> Result<(), DiskError> {
        let folder = self.path(parent);
        let listed: io::Result<Vec<_>> =
            fs::read_dir(&folder).and_then(|entries| entries.map(|e| Ok(e?.file_name())).collect());
        let mut listed = listed.map_err(DiskError::reading(&folder))?;
        listed.sort();
        for name in listed {
            let path = folder.join(&name);
            let stat = fs::symlink_metadata(&path).map_err(DiskError::reading(&path))?;
            let kind = kind(&path, &stat)?;
            let kind = match (kind, names.entry((stat.dev(), stat.ino()))) {
                (Kind::File, Entry::Occupied(first)) => Kind::Link(*first.get()),
                (Kind::File, Entry::Vacant(free)) if stat.nlink() > 1 => {
                    free.insert(self.nodes.len());
                    Kind::File
                }
                (kind, _) => kind,
            };
            self.nodes.push(Node { name, parent, kind, stat });
        }
        Ok(())
    }
}

fn kind(path: &Path, stat: &Metadata) -> Result<Kind, DiskError> {
    let kind = stat.file_type();
    if kind.is_dir() {
        return Ok(Kind::Folder(0..0));
    }
    if kind.is_file() {
        return Ok(Kind::File);
    }
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(DiskError::reading(path))?;
        return Ok(Kind::Symlink(target.into_os_string().into_vec()));
    }
    let what = match kind {
        _ if kind.is_socket() => "socket",
        _ if kind.is_fifo() => "named pipe",
        _ => "device",
    };
    Err(DiskError::Special { path: path.to_owned(), what })
}
