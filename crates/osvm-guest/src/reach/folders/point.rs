//! Where a folder is mounted: found below the root, or made there.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, open, openat2};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Links of the image are followed as if `root` were all there is; the kernel's own ones in `/proc` are not.
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Opens the folder `at` below `root`, making what is not there.
pub(super) fn make(root: &Path, at: &str) -> io::Result<OwnedFd> {
    let names = names(at)?;
    let root = open(root, FOLDER, Mode::empty())?;
    let mut path = PathBuf::from(".");
    let mut here = find(&root, &path)?;
    for name in names {
        path.push(name);
        here = match find(&root, &path) {
            Err(Errno::NOENT) => {
                mkdirat(&here, name, Mode::from_raw_mode(0o755))?;
                find(&root, &path)?
            }
            found => found?,
        };
    }
    Ok(here)
}

fn find(root: &OwnedFd, path: &Path) -> Result<OwnedFd, Errno> {
    loop {
        match openat2(root, path, FOLDER, Mode::empty(), INSIDE) {
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
