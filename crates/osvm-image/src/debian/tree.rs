//! The files of several packages as one root, with a merged `/usr`. Contents lie in one file without a name.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Entry, EntryType};

use super::{DebianError, Package, unwanted};
use crate::deb::{self, Ration};
use crate::entry::header;
use crate::files;

/// Names in the root are relative: `usr/bin/env`.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
    contents: File,
    /// Where the contents end.
    end: u64,
    /// The folder that they lie in, for errors.
    folder: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Folder { mode: u32 },
    Symlink(PathBuf),
    File { mode: u32, at: u64, size: u64 },
}

/// Folders that are symlinks to those of the same name in `usr`.
pub(super) const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];
/// Several times what all that servers and builds need unpacks to: a layer is another image's packages, maybe.
const MAX_CONTENTS: u64 = 8 << 30;
const MAX_NAMES: usize = 500_000;
/// All of them but those that give the rights of the owner or the group to others.
const RIGHTS: u32 = 0o1777;

impl Tree {
    /// Contents are kept in `folder` until this is dropped.
    pub(super) fn new(folder: &Path) -> Result<Self, DebianError> {
        let contents = tempfile::tempfile_in(folder).map_err(DebianError::write(folder))?;
        Ok(Self { nodes: BTreeMap::new(), contents, end: 0, folder: folder.to_owned() })
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Adds the files of a package.
    pub(super) fn unpack(&mut self, package: &Package) -> Result<(), DebianError> {
        let read = |source| DebianError::Read { package: package.name.clone(), source };
        let file = files::open(&package.file).map_err(read)?;
        let data = deb::files(BufReader::new(file)).map_err(read)?;
        let none = || DebianError::NoData { package: package.name.clone() };
        self.add_all(package, data.ok_or_else(none)?)
    }

    fn add_all(&mut self, package: &Package, data: impl Read) -> Result<(), DebianError> {
        let read = |source| DebianError::Read { package: package.name.clone(), source };
        let ration = Ration::new();
        let mut archive = tar::Archive::new(ration.of(data));
        for entry in archive.entries().map_err(read)? {
            let mut entry = entry.map_err(read)?;
            ration.grant(entry.size());
            self.hold(package, entry.size())?;
            self.add_entry(&package.name, &mut entry)?;
        }
        // What damage there is shows at the end of what is compressed.
        ration.grant(MAX_CONTENTS);
        deb::finish(archive.into_inner()).map_err(read)
    }

    /// To the bounds of a layer.
    fn hold(&self, package: &Package, size: u64) -> Result<(), DebianError> {
        if self.end.saturating_add(size) > MAX_CONTENTS || self.nodes.len() >= MAX_NAMES {
            return Err(DebianError::Huge { package: package.name.clone() });
        }
        Ok(())
    }

    fn add_entry<R: Read>(
        &mut self,
        package: &str,
        entry: &mut Entry<'_, R>,
    ) -> Result<(), DebianError> {
        let read = |source| DebianError::Read { package: package.to_owned(), source };
        let name = placed(package, &entry.path().map_err(read)?)?;
        if name.as_os_str().is_empty() || unwanted::is_unwanted(&name) {
            return Ok(());
        }
        let mode = entry.header().mode().map_err(read)? & RIGHTS;
        let target = entry.link_name().map_err(read)?.unwrap_or_default().into_owned();
        let node = match entry.header().entry_type() {
            EntryType::Directory => Some(Node::Folder { mode }),
            EntryType::Symlink => Some(Node::Symlink(target)),
            EntryType::Link => self.nodes.get(&placed(package, &target)?).cloned(),
            kind if kind.is_file() => Some(self.keep(mode, entry)?),
            _ => None,
        };
        if let Some(node) = node {
            self.put(name, node);
        }
        Ok(())
    }

    /// A folder where a link to one is already stays the link, as a package manager has it.
    fn put(&mut self, name: PathBuf, node: Node) {
        let is_link = matches!(self.nodes.get(&name), Some(Node::Symlink(_)));
        if !(is_link && matches!(node, Node::Folder { .. })) {
            self.nodes.insert(name, node);
        }
    }

    fn keep(&mut self, mode: u32, content: &mut dyn Read) -> Result<Node, DebianError> {
        let at = self.end;
        let size =
            io::copy(content, &mut self.contents).map_err(DebianError::write(&self.folder))?;
        self.end += size;
        Ok(Node::File { mode, at, size })
    }

    /// Adds what no package has, with the folders that it lies in.
    pub(super) fn add_file(&mut self, name: &str, content: &[u8]) -> Result<(), DebianError> {
        let node = self.keep(0o644, &mut &content[..])?;
        self.add(name, node);
        Ok(())
    }

    pub(super) fn add(&mut self, name: &str, node: Node) {
        for folder in Path::new(name).ancestors().skip(1).filter(|name| *name != Path::new("")) {
            self.nodes.entry(folder.to_owned()).or_insert(Node::Folder { mode: 0o755 });
        }
        self.nodes.insert(name.into(), node);
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.nodes.contains_key(Path::new(name))
    }

    /// Names of the files below a folder.
    pub(super) fn below(&self, folder: &str) -> Vec<PathBuf> {
        let files = self.nodes.iter().filter(|(_, node)| matches!(node, Node::File { .. }));
        files.map(|(name, _)| name).filter(|name| name.starts_with(folder)).cloned().collect()
    }

    /// The content of a file; nothing where there is none.
    pub(super) fn content(&mut self, name: &Path) -> Result<Option<Vec<u8>>, DebianError> {
        let Some(Node::File { at, size, .. }) = self.nodes.get(name) else { return Ok(None) };
        let (at, size) = (*at, *size);
        let mut bytes = Vec::new();
        let read = self.read(at, size).and_then(|mut content| content.read_to_end(&mut bytes));
        let back = self.contents.seek(SeekFrom::Start(self.end));
        read.and(back).map_err(DebianError::write(&self.folder))?;
        Ok(Some(bytes))
    }

    fn read(&self, at: u64, size: u64) -> io::Result<impl Read> {
        (&self.contents).seek(SeekFrom::Start(at))?;
        Ok((&self.contents).take(size))
    }

    /// Writes everything, sorted, of root and of no time, so that the same packages make the same bytes.
    pub(super) fn write(&self, target: &Path) -> Result<(), DebianError> {
        let written = files::write_whole(target, |file| {
            let packed = GzEncoder::new(BufWriter::new(file), Compression::fast());
            let mut archive = tar::Builder::new(packed);
            self.write_all(&mut archive)?;
            archive.into_inner()?.finish()?.flush()
        });
        written.map_err(DebianError::write(target))
    }

    fn write_all(&self, archive: &mut tar::Builder<impl Write>) -> io::Result<()> {
        let mut firsts = HashMap::new();
        for (name, node) in &self.nodes {
            match node {
                Node::Folder { mode } => {
                    let mut header = header(EntryType::Directory, *mode, 0);
                    archive.append_data(&mut header, name, io::empty())?;
                }
                Node::Symlink(to) => {
                    archive.append_link(&mut header(EntryType::Symlink, 0o777, 0), name, to)?;
                }
                Node::File { mode, at, size } => {
                    // A content with several names is written once; one of no bytes lies where the next one does.
                    let first = if *size > 0 { *firsts.entry(*at).or_insert(name) } else { name };
                    self.write_file(archive, name, first, (*mode, *at, *size))?;
                }
            }
        }
        Ok(())
    }

    fn write_file(
        &self,
        archive: &mut tar::Builder<impl Write>,
        name: &Path,
        first: &Path,
        (mode, at, size): (u32, u64, u64),
    ) -> io::Result<()> {
        if first != name {
            return archive.append_link(&mut header(EntryType::Link, mode, 0), name, first);
        }
        let content = self.read(at, size)?;
        archive.append_data(&mut header(EntryType::Regular, mode, size), name, content)
    }
}

/// Where a name of a package lies: below `usr` if it is in a folder that is merged.
fn placed(package: &str, name: &Path) -> Result<PathBuf, DebianError> {
    let mut placed = PathBuf::new();
    for part in name.components() {
        match part {
            Component::CurDir | Component::RootDir => {}
            Component::Normal(part) => placed.push(part),
            Component::ParentDir | Component::Prefix(_) => {
                let (package, name) = (package.to_owned(), name.display().to_string());
                return Err(DebianError::Name { package, name });
            }
        }
    }
    let merged = MERGED.iter().any(|folder| placed.starts_with(folder));
    Ok(if merged { Path::new("usr").join(placed) } else { placed })
}
