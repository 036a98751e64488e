//! What every program expects of a folder.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::time::{Duration, Instant, SystemTime};

use osvm_spec::Access;
use rustix::fs::{FallocateFlags, RenameFlags, fallocate, renameat_with};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::mount::Mounted;
use crate::share::{GID, UID, writable};

#[test]
fn files_are_made_written_read_moved_and_removed() {
    let Some(mounted) = Mounted::lend(Access::Rw) else { return };
    let (guest, host) = (mounted.folder(), mounted.share.folder());
    let big: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
    fs::create_dir(guest.join("a")).unwrap();
    fs::write(guest.join("a/big"), &big).unwrap();
    assert_eq!(fs::read(host.join("a/big")).unwrap(), big);
    assert_eq!(fs::read(guest.join("a/big")).unwrap(), big);
    fs::rename(guest.join("a/big"), guest.join("moved")).unwrap();
    fs::hard_link(guest.join("moved"), guest.join("second")).unwrap();
    assert_eq!(fs::metadata(host.join("second")).unwrap().nlink(), 2);
    symlink("second", guest.join("link")).unwrap();
    fs::hard_link(guest.join("link"), guest.join("link to the link")).unwrap();
    assert_eq!(fs::read_link(host.join("link to the link")).unwrap(), OsStr::new("second"));
    assert_eq!(fs::read(guest.join("link")).unwrap(), big);
    for name in ["link", "link to the link", "second", "moved"] {
        fs::remove_file(guest.join(name)).unwrap();
    }
    fs::remove_dir(guest.join("a")).unwrap();
    assert_eq!(fs::read_dir(&host).unwrap().count(), 0);
}

#[test]
fn appending_truncating_and_modes_do_what_they_say() {
    let Some(mounted) = Mounted::lend(Access::Rw) else { return };
    let (guest, host) = (mounted.folder().join("file"), mounted.share.folder().join("file"));
    fs::write(&guest, "one").unwrap();
    // What the host has appended meanwhile is not written over.
    File::options().append(true).open(&host).unwrap().write_all(b" two").unwrap();
    File::options().append(true).open(&guest).unwrap().write_all(b" three").unwrap();
    assert_eq!(fs::read_to_string(&host).unwrap(), "one two three");
    File::options().write(true).open(&guest).unwrap().set_len(3).unwrap();
    assert_eq!(fs::read_to_string(&host).unwrap(), "one");
    File::options().write(true).truncate(true).open(&guest).unwrap();
    assert_eq!(fs::metadata(&host).unwrap().len(), 0);
    fs::set_permissions(&guest, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(fs::metadata(&host).unwrap().mode() & 0o7777, 0o640);
    let then = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 500);
    File::options().write(true).open(&guest).unwrap().set_modified(then).unwrap();
    assert_eq!(fs::metadata(&host).unwrap().modified().unwrap(), then);
    let new =
        File::options().write(true).create_new(true).mode(0o600).open(guest.with_extension("x"));
    assert_eq!(new.unwrap().metadata().unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn an_open_file_outlives_its_name() {
    let Some(mounted) = Mounted::lend(Access::Rw) else { return };
    let path = mounted.folder().join("file");
    let mut file = writable(&path);
    fs::remove_file(&path).unwrap();
    file.write_all(b"still here").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
}

#[test]
fn files_of_the_hosts_user_are_the_guests_and_others_are_nobodys() {
    let Some(mounted) = Mounted::lend(Access::Rw) else { return };
    let (guest, host) = (mounted.folder(), mounted.share.folder());
    fs::write(guest.join("mine"), "").unwrap();
    fs::write(host.join("others"), "").unwrap();
    std::os::unix::fs::chown(host.join("others"), Some(77), Some(77)).unwrap();
    let shown = |name| {
        let metadata = fs::metadata(guest.join(name)).unwrap();
        (metadata.uid(), metadata.gid())
    };
    assert_eq!((shown("mine"), shown("others")), ((UID, GID), (65534, 65534)));
    let give = |uid, gid| std::os::unix::fs::chown(guest.join("mine"), uid, gid);
    give(Some(UID), Some(GID)).unwrap();
    for (uid, gid) in [(Some(0), None), (None, Some(0)), (Some(77), Some(77))] {
        let refused = give(uid, gid).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(Errno::PERM.raw_os_error()));
    }
    let owner = fs::metadata(host.join("mine")).unwrap().uid();
    assert_eq!(owner, rustix::process::geteuid().as_raw());
}

#[test]
fn names_are_bytes() {
    let Some(mounted) = Mounted::lend(Access::Rw) else { return };
    let name = OsStr::from_bytes(b"\xff\xfe\x80 \n\t");
    fs::write(mounted.folder().join(name), "x").unwrap();
    assert_eq!(fs::read(mounted.share.folder().join(name)).unwrap(), b"x");
    let listed = fs::read_dir(mounted.folder()).unwrap().next().unwrap().unwrap();
    assert_eq!(listed.file_name(), name);
    let long = "x".repeat(256);
    let refused = fs::write(mounted.folder().join(long), "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::NAMETOOLONG.raw_os_error()));
}

#[test]
fn a_hundred_thousand_names_are_listed_each_once() {
    const MANY: usize = 100_000;
    let Some(mounted) = Mounted::lend_prepared(Access::Ro, |folder| {
        for number in 0..MANY {
            File::create(folder.join(number.to_string())).unwrap();
        }
    }) else {
        return;
    };
    let mut seen = vec![false; MANY];
    for entry in fs::read_dir(mounted.folder()).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.file_type().unwrap().is_file());
        let number: usize = entry.file_name().to_str().unwrap().parse().unwrap();
        assert!(!std::mem::replace(&mut seen[number], true), "{number} twice");
    }
    assert!(seen.iter().all(|&is_seen| is_seen));
    assert!(fs::metadata(mounted.folder().join("99999")).is_ok());
}

#[test]
fn a_guest_may_know_more_files_than_the_host_may_hold() {
    const FOLDERS: usize = 20;
    const FILES: usize = 100;
    let usual = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(512), ..usual }).unwrap();
    let mounted = Mounted::lend_prepared(Access::Rw, |folder| {
        for number in 0..FOLDERS {
            fs::create_dir_all(folder.join(format!("{number}/deep/deeper"))).unwrap();
            for file in 0..FILES {
                fs::write(folder.join(format!("{number}/deep/deeper/{file}")), file.to_string())
                    .unwrap();
            }
        }
    });
    setrlimit(Resource::Nofile, usual).unwrap();
    let Some(mounted) = mounted else { return };
    let guest = mounted.folder();
    let path = |folder: usize, file: usize| guest.join(format!("{folder}/deep/deeper/{file}"));
    let mut open = File::open(path(0, 0)).unwrap();
    fs::remove_file(path(0, 0)).unwrap();
    fs::write(path(0, 0), "0").unwrap();
    for _ in 0..2 {
        for (folder, file) in
            (0..FOLDERS).flat_map(|folder| (0..FILES).map(move |file| (folder, file)))
        {
            assert_eq!(fs::read_to_string(path(folder, file)).unwrap(), file.to_string());
        }
    }
    fs::rename(guest.join("3"), guest.join("moved")).unwrap();
    fs::rename(guest.join("4/deep"), guest.join("moved/there")).unwrap();
    assert_eq!(fs::read_to_string(guest.join("moved/deep/deeper/7")).unwrap(), "7");
    assert_eq!(fs::read_to_string(guest.join("moved/there/deeper/8")).unwrap(), "8");
    fs::set_permissions(path(5, 5), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    let mut content = String::new();
    open.read_to_string(&mut content).unwrap();
    assert_eq!(content, "0");
}

#[test]
fn holes_are_found_punched_and_cost_nothing() {
    const GIB: u64 = 1 << 30;
    let Some(mounted) = Mounted::lend(Access::Rw) else { return };
    let (guest, host) = (mounted.folder().join("file"), mounted.share.folder().join("file"));
    let file = writable(&guest);
    file.set_len(10 * GIB).unwrap();
    file.write_all_at(&[1; 8192], 9 * GIB).unwrap();
    assert!(fs::metadata(&host).unwrap().blocks() < 1000);
    let seek = |from| rustix::fs::seek(&file, from);
    assert_eq!(seek(rustix::fs::SeekFrom::Data(0)), Ok(9 * GIB));
    assert_eq!(seek(rustix::fs::SeekFrom::Hole(9 * GIB)), Ok(9 * GIB + 8192));
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, 9 * GIB, 8192).unwrap();
    assert_eq!(seek(rustix::fs::SeekFrom::Data(0)), Err(Errno::NXIO));
    fallocate(&file, FallocateFlags::empty(), 0, 4096).unwrap();
    assert!(fs::metadata(&host).unwrap().blocks() >= 8);
    let collapse = FallocateFlags::COLLAPSE_RANGE;
    assert_eq!(fallocate(&file, collapse, 0, 4096), Err(Errno::OPNOTSUPP));
}

#[test]
fn a_full_disk_is_a_full_disk() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let mut small = None;
    let mounted = Mounted::lend_prepared(Access::Rw, |folder| {
        mount("small", folder, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
        small = Some(folder.to_owned());
    });
    let Some(mounted) = mounted else { return };
    let file = writable(&mounted.folder().join("file"));
    let full = file.write_all_at(&vec![1; 2 << 20], 0).unwrap_err();
    let space = rustix::fs::statvfs(mounted.folder()).unwrap();
    drop((file, mounted));
    unmount(small.unwrap(), UnmountFlags::DETACH).unwrap();
    assert_eq!(full.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    assert_eq!((space.f_blocks * space.f_frsize, space.f_bavail), (1 << 20, 0));
}

#[test]
fn a_move_replaces_nothing_or_changes_places_when_asked_to() {
    let Some(mounted) = Mounted::lend(Access::Rw) else { return };
    let (a, b) = (mounted.folder().join("a"), mounted.folder().join("b"));
    fs::write(&a, "a").unwrap();
    fs::write(&b, "b").unwrap();
    let rename = |flags| renameat_with(rustix::fs::CWD, &a, rustix::fs::CWD, &b, flags);
    assert_eq!(rename(RenameFlags::NOREPLACE), Err(Errno::EXIST));
    rename(RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read_to_string(mounted.share.folder().join("a")).unwrap(), "b");
    assert_eq!(rename(RenameFlags::WHITEOUT), Err(Errno::INVAL));
}

#[test]
fn programs_keep_their_own_attributes() {
    use rustix::fs::{XattrFlags, getxattr, listxattr, removexattr, setxattr};
    let Some(mounted) = Mounted::lend(Access::Rw) else { return };
    let path = mounted.folder().join("file");
    fs::write(&path, "").unwrap();
    if setxattr(mounted.share.folder().join("file"), "user.x", b"1", XattrFlags::empty()).is_err() {
        return eprintln!("skipped: the folder of temporary files has no extended attributes");
    }
    setxattr(&path, "user.y", b"value", XattrFlags::CREATE).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(getxattr(&path, "user.y", &mut buffer), Ok(5));
    assert_eq!(listxattr(&path, &mut buffer), Ok(b"user.x\0user.y\0".len()));
    removexattr(&path, "user.x").unwrap();
    let missing = getxattr(mounted.share.folder().join("file"), "user.x", &mut buffer);
    assert_eq!(missing, Err(Errno::NODATA));
}

#[test]
fn locks_hold_among_the_guests_processes() {
    let Some(mounted) = Mounted::lend(Access::Rw) else { return };
    let path = mounted.folder().join("file");
    let (one, other) = (writable(&path), writable(&path));
    one.lock().unwrap();
    assert!(other.try_lock().is_err());
    drop(one);
    other.lock().unwrap();
}

#[test]
fn what_the_host_changes_is_seen_soon() {
    let Some(mounted) = Mounted::lend(Access::Rw) else { return };
    changes_are_seen_soon(&mounted);
    let path = mounted.share.folder().join("file");
    fs::write(&path, "one").unwrap();
    assert_eq!(fs::read_to_string(mounted.folder().join("file")).unwrap(), "one");
    fs::write(&path, "two").unwrap();
    let read = fs::read_to_string(mounted.folder().join("file")).unwrap();
    assert_eq!(read, "two", "whoever opens it anew sees it at once");
}

#[test]
fn what_the_host_changes_is_seen_soon_in_a_folder_that_is_lent_for_reading() {
    let Some(mounted) = Mounted::lend(Access::Ro) else { return };
    changes_are_seen_soon(&mounted);
}

/// One and the same time of change hides what was written last, as where two programs write in the same moment.
#[test]
fn what_the_host_changes_without_a_trace_is_seen_soon_too() {
    let Some(mounted) = Mounted::lend(Access::Ro) else { return };
    let (guest, path) = (mounted.folder().join("file"), mounted.share.folder().join("file"));
    let write = |text: &str| {
        fs::write(&path, text).unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
    };
    write("one");
    assert_eq!(fs::read_to_string(&guest).unwrap(), "one");
    write("two");
    let deadline = Instant::now() + Duration::from_secs(30);
    while fs::read_to_string(&guest).unwrap() != "two" {
        assert!(Instant::now() < deadline, "what was read first is kept for good");
        std::thread::sleep(Duration::from_millis(50));
    }
    let modified = fs::metadata(&guest).unwrap().modified().unwrap();
    assert_eq!(modified, SystemTime::UNIX_EPOCH, "settled, the time is told as it is");
}

fn changes_are_seen_soon(mounted: &Mounted) {
    let (guest, host) = (mounted.folder(), mounted.share.folder());
    assert!(!guest.join("new").exists());
    fs::write(host.join("new"), "one").unwrap();
    assert_eq!(fs::read_to_string(guest.join("new")).unwrap(), "one", "absence is not kept");
    let read = File::open(guest.join("new")).unwrap();
    fs::write(host.join("new"), "other").unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut text = [0; 5];
    while read.read_at(&mut text, 0).unwrap() != 5 || &text != b"other" {
        assert!(Instant::now() < deadline, "an open file shows what it was");
        std::thread::sleep(Duration::from_millis(50));
    }
    fs::remove_file(host.join("new")).unwrap();
    while guest.join("new").exists() {
        assert!(Instant::now() < deadline, "what is gone is still shown");
        std::thread::sleep(Duration::from_millis(50));
    }
}
