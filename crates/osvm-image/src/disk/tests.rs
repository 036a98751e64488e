//! Disks unpacked again by `unsquashfs`, the format's own tool, and compared with their folders.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use super::tree::Tree;
use super::*;

fn disk(folder: &Path) -> Result<Vec<u8>, DiskError> {
    let mut out = tempfile::NamedTempFile::new().unwrap();
    write(&Folder::scan(folder)?, out.as_file_mut())?;
    Ok(fs::read(out.path()).unwrap())
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("bin")).unwrap();
    fs::write(folder.path().join("bin/server"), vec![b'x'; 300_000]).unwrap();
    fs::set_permissions(folder.path().join("bin/server"), Permissions::from_mode(0o4755)).unwrap();
    symlink("server", folder.path().join("bin/alias")).unwrap();
    fs::hard_link(folder.path().join("bin/server"), folder.path().join("again")).unwrap();
    folder
}

/// Unpacks with `unsquashfs`; nothing where it is not installed.
#[expect(clippy::disallowed_methods, reason = "another program must be able to read our disks")]
pub(crate) fn unpack(disk: &[u8]) -> Option<(TempDir, PathBuf)> {
    let work = tempfile::tempdir().unwrap();
    let (image, out) = (work.path().join("disk"), work.path().join("out"));
    fs::write(&image, disk).unwrap();
    let mut command = Command::new("unsquashfs");
    command.args(["-quiet", "-no-progress", "-dest"]).arg(&out).arg(&image);
    let Ok(output) = command.output() else {
        eprintln!("skipped: unsquashfs is not installed (package squashfs-tools)");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some((work, out))
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) mode: u32,
    pub(crate) mtime: i64,
    pub(crate) links: u64,
    pub(crate) content: Vec<u8>,
}

/// Everything below a folder that a disk keeps.
pub(crate) fn everything(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let entries = walkdir::WalkDir::new(root).min_depth(1).into_iter().map(Result::unwrap);
    let see = |entry: walkdir::DirEntry| {
        let stat = entry.metadata().unwrap();
        let content = match () {
            () if stat.is_file() => fs::read(entry.path()).unwrap(),
            () if stat.is_symlink() => {
                fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes()
            }
            () => Vec::new(),
        };
        // Folders are counted in ways of their own by each file system.
        let links = if stat.is_dir() { 0 } else { stat.nlink() };
        // `unsquashfs` gives the set-user-ID bit to nobody's files but root's.
        let kept = if rustix::process::getuid().is_root() { !0 } else { !0o6000 };
        let seen = Seen { mode: stat.mode() & kept, mtime: stat.mtime(), links, content };
        (entry.path().strip_prefix(root).unwrap().to_owned(), seen)
    };
    entries.map(see).collect()
}

#[track_caller]
fn assert_survives(folder: &Path) {
    if let Some((_work, out)) = unpack(&disk(folder).unwrap()) {
        let (before, after) = (everything(folder), everything(&out));
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        for (path, seen) in &before {
            assert!(after[path] == *seen, "{}", path.display());
        }
    }
}

#[test]
fn the_same_folder_gives_the_same_disk() {
    let folder = folder();
    let first = disk(folder.path()).unwrap();
    assert!(disk(folder.path()).unwrap() == first);
    assert_eq!(first.len() % 4096, 0);
}

#[test]
fn modes_times_and_links_of_both_kinds_survive() {
    assert_survives(folder().path());
}

#[test]
fn an_empty_folder_is_a_disk() {
    assert_survives(tempfile::tempdir().unwrap().path());
}

#[test]
fn a_folder_of_thousands_of_names_survives() {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..3000 {
        File::create(folder.path().join(format!("a-file-with-a-rather-long-name-{i}"))).unwrap();
    }
    assert_survives(folder.path());
}

#[test]
fn names_that_are_no_text_survive() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"\xff \n\x01");
    fs::write(folder.path().join(name), "x").unwrap();
    let tree = Folder::scan(folder.path()).unwrap();
    assert_eq!(tree.nodes()[1].name, name);
    assert!(disk(folder.path()).is_ok());
}

#[test]
fn holes_take_no_space() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::create(folder.path().join("sparse")).unwrap();
    file.write_all(b"start").unwrap();
    file.seek(SeekFrom::Start(100 << 20)).unwrap();
    file.write_all(b"end").unwrap();
    assert_survives(folder.path());
    file.set_len(1 << 36).unwrap();
    assert!(disk(folder.path()).unwrap().len() < 64 * 1024);
}

#[test]
fn the_same_content_is_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let noise: Vec<u8> =
        (0..400_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for name in ["a", "b", "c"] {
        fs::write(folder.path().join(name), &noise).unwrap();
    }
    let size = disk(folder.path()).unwrap().len();
    assert!(size < 450_000, "{size} bytes");
    assert_survives(folder.path());
}

#[test]
fn attributes_of_users_survive() {
    let folder = folder();
    let path = folder.path().join("bin/server");
    let set = |path: &Path, name: &str, value: &[u8]| {
        rustix::fs::lsetxattr(path, name, value, rustix::fs::XattrFlags::empty())
    };
    if set(&path, "user.osvm", b"kept").is_err() {
        eprintln!("skipped: the folder of temporary files has no extended attributes");
        return;
    }
    set(&folder.path().join("bin"), "user.other", &[7; 3000]).unwrap();
    assert_survives(folder.path());
    let Some((_work, out)) = unpack(&disk(folder.path()).unwrap()) else { return };
    for (path, name, value) in
        [("bin/server", "user.osvm", b"kept".as_slice()), ("bin", "user.other", &[7; 3000])]
    {
        let mut found = vec![0; 4000];
        let size = rustix::fs::lgetxattr(out.join(path), name, found.as_mut_slice()).unwrap();
        assert!(&found[..size] == value, "{path}");
    }
}

#[test]
fn a_socket_and_a_pipe_are_refused_by_name() {
    let folder = folder();
    let socket = folder.path().join("talk.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let refused = disk(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("talk.sock") && refused.contains("socket"), "{refused}");
    fs::remove_file(socket).unwrap();
    let pipe = folder.path().join("pipe");
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, 0o600.into(), 0).unwrap();
    let refused = disk(folder.path()).unwrap_err().to_string();
    assert!(refused.contains("named pipe"), "{refused}");
}

#[test]
fn a_file_that_changes_between_look_and_read_is_refused() {
    let folder = folder();
    let tree = Folder::scan(folder.path()).unwrap();
    let file = File::options().write(true).open(folder.path().join("again")).unwrap();
    file.set_len(1000).unwrap();
    let refused = write(&tree, &mut tempfile::tempfile().unwrap()).unwrap_err();
    assert!(matches!(refused, DiskError::Changed { .. }), "{refused}");
}

#[test]
fn a_link_put_where_a_file_was_is_not_followed() {
    let folder = folder();
    let tree = Folder::scan(folder.path()).unwrap();
    fs::remove_file(folder.path().join("again")).unwrap();
    symlink("/etc/passwd", folder.path().join("again")).unwrap();
    assert!(write(&tree, &mut tempfile::tempfile().unwrap()).is_err());
}

#[test]
fn a_fingerprint_tells_changes() {
    let folder = folder();
    let look = || Folder::scan(folder.path()).unwrap().fingerprint();
    let mut seen = vec![look()];
    assert_eq!(look(), seen[0]);
    let file = folder.path().join("again");
    File::options().write(true).open(&file).unwrap().write_all_at(b"yy", 1).unwrap();
    seen.push(look());
    fs::rename(&file, folder.path().join("renamed")).unwrap();
    seen.push(look());
    fs::remove_file(folder.path().join("renamed")).unwrap();
    seen.push(look());
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn files_of_every_size_survive(
        files in proptest::collection::vec((0..4_usize, -2..3_i64, any::<u8>()), 1..12)
    ) {
        let folder = tempfile::tempdir().unwrap();
        for (index, (blocks, off, seed)) in files.into_iter().enumerate() {
            let size = (blocks * BLOCK).saturating_add_signed(isize::try_from(off).unwrap());
            let bytes: Vec<u8> = (0..size).map(|i| ((i / 7) as u8).wrapping_mul(seed)).collect();
            fs::write(folder.path().join(index.to_string()), bytes).unwrap();
        }
        assert_survives(folder.path());
    }
}
