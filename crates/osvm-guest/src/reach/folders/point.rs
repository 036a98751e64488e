//! Where a folder or a file is mounted: found below the root, or made there.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat, openat2};
use rustix::io::Errno;

/// A place below a root, and what is to be mounted there.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) root: &'static Path,
    pub(super) at: String,
    pub(super) thing: Thing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thing {
    Folder,
    File,
}

impl Place {
    /// Opens it, making what is not there.
    pub(super) fn make(&self) -> io::Result<OwnedFd> {
        make(self.root, &self.at, self.thing)
    }
}

const ANYTHING: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
const FOLDER: OFlags = ANYTHING.union(OFlags::DIRECTORY);

/// Links of the image are followed as if `root` were all there is; the kernel's own ones in `/proc` are not.
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

fn make(root: &Path, at: &str, thing: Thing) -> io::Result<OwnedFd> {
    let mut names = names(at)?;
    let file = if thing == Thing::File { names.pop() } else { None };
    let root = open(root, FOLDER, Mode::empty())?;
    let mut path = PathBuf::from(".");
    let mut here = find(&root, &path, FOLDER)?;
    for name in names {
        path.push(name);
        here = match find(&root, &path, FOLDER) {
            Err(Errno::NOENT) => {
                mkdirat(&here, name, Mode::from_raw_mode(0o755))?;
                find(&root, &path, FOLDER)?
            }
            found => found?,
        };
    }
    match file {
        None => Ok(here),
        Some(name) => make_file(&root, &here, &path.join(name), name),
    }
}

/// An empty one, where there is none.
fn make_file(root: &OwnedFd, folder: &OwnedFd, path: &Path, name: &str) -> io::Result<OwnedFd> {
    let file = match find(root, path, ANYTHING) {
        Err(Errno::NOENT) => {
            let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            openat(folder, name, new, Mode::from_raw_mode(0o644))?;
            find(root, path, ANYTHING)?
        }
        found => found?,
    };
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file),
        FileType::Directory => Err(io::ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "something else lies there")),
    }
}

fn find(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    loop {
        match openat2(root, path, flags, Mode::empty(), INSIDE) {
            // Something was renamed or mounted meanwhile, anywhere.
            Err(Errno::AGAIN | Errno::INTR) => {}
            found => return found,
        }
    }
}

/// The names on the way. The root itself is no place for a folder: it would hide everything.
fn names(at: &str) -> io::Result<Vec<&str>> {
    let invalid = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    let mut names = Vec::new();
    for component in Path::new(at).components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => names.extend(name.to_str()),
            _ => return invalid("the path is not plain"),
        }
    }
    if !at.starts_with('/') || names.is_empty() {
        return invalid("the path does not lead from the root to a folder");
    }
    Ok(names)
}

/// How deep a folder lies: those above are mounted first, or they would hide those below.
pub(super) fn depth(at: &str) -> usize {
    Path::new(at).components().count()
}

/// A path that leads to an open folder and nowhere else.
pub(super) fn path(folder: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn make(root: &Path, at: &str) -> io::Result<OwnedFd> {
        super::make(root, at, Thing::Folder)
    }

    #[test]
    fn a_file_is_made_where_there_is_none_and_nothing_else_is_taken_for_one() {
        let root = tempfile::tempdir().unwrap();
        let make = |at: &str| super::make(root.path(), at, Thing::File);
        make("/a/b/new").unwrap();
        assert_eq!(fs::read(root.path().join("a/b/new")).unwrap(), b"");
        fs::write(root.path().join("old"), "as it was").unwrap();
        make("/old").unwrap();
        assert_eq!(fs::read(root.path().join("old")).unwrap(), b"as it was");
        symlink("/old", root.path().join("a/link")).unwrap();
        make("/a/link").unwrap();
        symlink("/nowhere", root.path().join("hanging")).unwrap();
        for at in ["/a", "/a/", "/hanging", "/old/x", "/", "/a/../b"] {
            assert!(make(at).is_err(), "{at}");
        }
    }

    #[test]
    fn what_is_not_there_is_made() {
        let root = tempfile::tempdir().unwrap();
        make(root.path(), "/a/b//c/").unwrap();
        make(root.path(), "/a/b/d").unwrap();
        assert!(root.path().join("a/b/c").is_dir() && root.path().join("a/b/d").is_dir());
    }

    #[test]
    fn links_lead_within_the_root_and_not_out() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(root.path().join("run")).unwrap();
        fs::create_dir_all(root.path().join("var")).unwrap();
        symlink("/run", root.path().join("var/run")).unwrap();
        make(root.path(), "/var/run/work").unwrap();
        assert!(root.path().join("run/work").is_dir());

        symlink(outside.path(), root.path().join("out")).unwrap();
        symlink("../../../../../../../../..", root.path().join("up")).unwrap();
        assert!(make(root.path(), "/out/work").is_err());
        make(root.path(), "/up/work").unwrap();
        assert!(root.path().join("work").is_dir());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn impossible_places_are_refused() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        for at in ["", "/", "work", "/a/../b", "./a", "/file", "/file/x", "/a\0b"] {
            assert!(make(root.path(), at).is_err(), "{at:?}");
        }
    }
}
