//! What is in a folder, without reading any file: the list that a disk is made from, and by which a
//! folder is recognised that has not changed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{lgetxattr, llistxattr};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::DiskError;
use super::tree::{Content, Kind, Node, Stat, Tree, Xattr, path_below};
use super::xattrs;
use crate::files;

/// A folder of the host. Its owner and group are root on the disk.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    nodes: Vec<Node>,
    /// What `stat` said of each node.
    looks: Vec<Metadata>,
}

impl Folder {
    /// Looks at everything in `root`. What is mounted inside stays out: only its mount point is seen.
    pub(crate) fn scan(root: &Path) -> Result<Self, DiskError> {
        let look = fs::metadata(root).map_err(DiskError::reading(root))?;
        let mut folder = Self { root: root.to_owned(), nodes: Vec::new(), looks: Vec::new() };
        folder.add(OsString::new(), 0, Kind::Folder(0..0), look);
        let mut names = HashMap::new();
        let mut next = 0;
        while next < folder.nodes.len() {
            if matches!(folder.nodes[next].kind, Kind::Folder(_)) && folder.is_inside(next) {
                let start = folder.nodes.len();
                folder.list(next, &mut names)?;
                folder.nodes[next].kind = Kind::Folder(start..folder.nodes.len());
            }
            next += 1;
        }
        Ok(folder)
    }

    /// Changes whenever anything changes that `stat` shows.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (Node { name, parent, .. }, look) in self.nodes.iter().zip(&self.looks) {
            hash.update((name.len() as u64).to_le_bytes());
            hash.update(name.as_bytes());
            hash.update((*parent as u64).to_le_bytes());
            for number in [look.dev(), look.ino(), look.mode().into(), look.nlink(), look.size()] {
                hash.update(number.to_le_bytes());
            }
            for number in [look.uid(), look.gid()] {
                hash.update(number.to_le_bytes());
            }
            for time in [look.mtime(), look.mtime_nsec(), look.ctime(), look.ctime_nsec()] {
                hash.update(time.to_le_bytes());
            }
        }
        hash.finalize().into()
    }

    /// The latest change of anything, in seconds and nanoseconds.
    pub(crate) fn last_change(&self) -> (i64, i64) {
        let changes = self.looks.iter().map(|look| (look.ctime(), look.ctime_nsec()));
        changes.max().unwrap_or_default()
    }

    fn add(&mut self, name: OsString, parent: usize, kind: Kind, look: Metadata) {
        let stat = stat(&look, self.looks.first().unwrap_or(&look));
        self.nodes.push(Node { name, parent, kind, stat });
        self.looks.push(look);
    }

    fn is_inside(&self, place: usize) -> bool {
        self.looks[place].dev() == self.looks[0].dev()
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
            let look = fs::symlink_metadata(&path).map_err(DiskError::reading(&path))?;
            let kind = kind(&path, &look)?;
            let kind = match (kind, names.entry((look.dev(), look.ino()))) {
                (Kind::File, Entry::Occupied(first)) => Kind::Link(*first.get()),
                (Kind::File, Entry::Vacant(free)) if look.nlink() > 1 => {
                    free.insert(self.nodes.len());
                    Kind::File
                }
                (kind, _) => kind,
            };
            self.add(name, parent, kind, look);
        }
        Ok(())
    }
}

impl Tree for Folder {
    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    fn path(&self, at: usize) -> PathBuf {
        let mut path = self.root.clone();
        path.extend(&path_below(&self.nodes, at));
        path
    }

    fn open(&self, at: usize) -> io::Result<Box<dyn Content + '_>> {
        Ok(Box::new(Opened { file: files::open(&self.path(at))?, then: &self.looks[at] }))
    }

    fn xattrs(&self, at: usize) -> io::Result<Vec<Xattr>> {
        read_xattrs(&self.path(at))
    }
}

/// A file, and its looks when the folder was scanned.
struct Opened<'a> {
    file: File,
    then: &'a Metadata,
}

impl Read for Opened<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for Opened<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Content for Opened<'_> {
    fn next_data(&mut self, at: u64) -> io::Result<u64> {
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => Ok(data),
            Err(Errno::NXIO) => Ok(self.then.size()),
            // A file system that does not know holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(at),
            Err(error) => Err(error.into()),
        }
    }

    fn is_same(&self) -> io::Result<bool> {
        Ok(files::is_same(&self.file.metadata()?, self.then))
    }
}

/// Who is not root can't make files of root's, so whoever owns the folder itself is root.
fn stat(look: &Metadata, root: &Metadata) -> Stat {
    Stat {
        mode: u16::try_from(look.mode() & 0o7777).expect("twelve bits"),
        uid: if look.uid() == root.uid() { 0 } else { look.uid() },
        gid: if look.gid() == root.gid() { 0 } else { look.gid() },
        mtime: look.mtime(),
        size: look.size(),
        // Only a file with holes has fewer blocks than bytes.
        sparse: look.blocks().saturating_mul(512) < look.size(),
    }
}

/// Those that a disk keeps.
fn read_xattrs(path: &Path) -> io::Result<Vec<Xattr>> {
    let mut names = Vec::with_capacity(xattrs::MAX);
    match llistxattr(path, spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    }
    let names = names.split(|byte| *byte == 0).filter(|name| xattrs::kept(name).is_some());
    let read = |name: &[u8]| {
        let mut value = Vec::with_capacity(xattrs::MAX);
        lgetxattr(path, name, spare_capacity(&mut value))?;
        Ok((name.into(), value.into()))
    };
    let mut set = names.map(read).collect::<io::Result<Vec<Xattr>>>()?;
    set.sort_unstable();
    Ok(set)
}

fn kind(path: &Path, look: &Metadata) -> Result<Kind, DiskError> {
    let kind = look.file_type();
    if kind.is_dir() {
        return Ok(Kind::Folder(0..0));
    }
    if kind.is_file() {
        return Ok(Kind::File);
    }
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(DiskError::reading(path))?;
        return Ok(Kind::Symlink(target.into_os_string().into_vec().into()));
    }
    let what = match kind {
        _ if kind.is_socket() => "socket",
        _ if kind.is_fifo() => "named pipe",
        _ => "device",
    };
    Err(DiskError::Special { path: path.to_owned(), what })
}
