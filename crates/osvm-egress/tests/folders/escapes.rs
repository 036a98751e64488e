//! Every way out of the folder that is known here, tried.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use osvm_spec::Access;
use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags, mknodat, renameat_with};
use rustix::io::Errno;

use crate::mount::Mounted;
use crate::peer::{ENTRY_LEN, Peer, ROOT, call, fields, number, text};
use crate::share::{Share, picture};

fn error<T>(errno: Errno) -> Result<T, i32> {
    Err(errno.raw_os_error())
}

#[test]
fn only_a_name_in_the_folder_is_a_name() {
    let share =
        Share::lend_prepared(Access::RwAll, |folder| fs::create_dir(folder.join("sub")).unwrap());
    let mut peer = Peer::of(&share);
    let sub = peer.look_up(ROOT, "sub").unwrap();
    for node in [ROOT, sub] {
        for name in ["", ".", "..", "../secret", "sub/..", "/", "/etc/passwd", "..\0"] {
            assert_eq!(peer.look_up(node, name), error(Errno::INVAL), "{name:?}");
            let body = [fields(&[0o755, 0]), text(name)].concat();
            assert_eq!(peer.ask(call::MKDIR, node, &body), error(Errno::INVAL), "{name:?}");
            assert_eq!(peer.ask(call::UNLINK, node, &text(name)), error(Errno::INVAL), "{name:?}");
            assert_eq!(peer.ask(call::RMDIR, node, &text(name)), error(Errno::INVAL), "{name:?}");
            let rename = [&ROOT.to_ne_bytes()[..], &text(name), &text("x")].concat();
            assert_eq!(peer.ask(call::RENAME, node, &rename), error(Errno::INVAL), "{name:?}");
            let rename = [&ROOT.to_ne_bytes()[..], &text("sub"), &text(name)].concat();
            assert_eq!(peer.ask(call::RENAME, node, &rename), error(Errno::INVAL), "{name:?}");
            let link = [&sub.to_ne_bytes()[..], &text(name)].concat();
            assert_eq!(peer.ask(call::LINK, node, &link), error(Errno::INVAL), "{name:?}");
            let create = [fields(&[OFlags::RDWR.bits(), 0o644, 0, 0]), text(name)].concat();
            assert_eq!(peer.ask(call::CREATE, node, &create), error(Errno::INVAL), "{name:?}");
        }
    }
}

#[test]
fn a_link_is_text_wherever_it_leads() {
    let share = Share::lend_prepared(Access::RwAll, |folder| {
        symlink("/etc/passwd", folder.join("absolute")).unwrap();
        symlink("../secret", folder.join("relative")).unwrap();
        symlink("/etc", folder.join("to a folder")).unwrap();
        symlink("/proc/self/root/etc/passwd", folder.join("magic")).unwrap();
        symlink("/proc/self/fd/3", folder.join("descriptor")).unwrap();
    });
    let mut peer = Peer::of(&share);
    for name in ["absolute", "relative", "to a folder", "magic", "descriptor"] {
        let link = peer.look_up(ROOT, name).unwrap();
        let flags = OFlags::RDONLY.bits() as i32;
        assert_eq!(peer.open(link, flags), error(Errno::ACCESS), "{name}");
        assert_eq!(peer.ask(call::OPENDIR, link, &fields(&[0, 0])), error(Errno::NOTDIR));
        assert!(peer.look_up(link, "passwd").is_err());
        let create = [fields(&[OFlags::WRONLY.bits(), 0o644, 0, 0]), text(name)].concat();
        assert!(peer.ask(call::CREATE, ROOT, &create).is_err(), "{name}");
        let mut truncate = vec![0; 88];
        truncate[0] = 8;
        assert!(peer.ask(call::SETATTR, link, &truncate).is_err(), "{name}");
    }
    assert_eq!(fs::read_to_string(share.secret()).unwrap(), "secret");
}

#[test]
fn links_lead_to_what_the_guest_has_there() {
    let Some(mounted) = Mounted::lend(Access::RwAll) else { return };
    let secret = mounted.share.secret();
    symlink("../secret", mounted.folder().join("link")).unwrap();
    assert!(fs::read(mounted.folder().join("link")).is_err(), "{secret:?} lies elsewhere here");
    assert!(fs::read(mounted.folder().join("sub/../../secret")).is_err());
}

/// Ends what goes on beside it, however the test ends.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A name that is a file, then a link out, then a folder, again and again while it is used.
#[test]
fn a_name_swapped_under_use_leads_nowhere_else() {
    const ROUNDS: usize = 5000;
    let share = Share::lend_prepared(Access::RwAll, |folder| {
        fs::create_dir(folder.join("inside")).unwrap();
        fs::write(folder.join("inside/file"), "inside").unwrap();
        fs::create_dir(folder.join("swapped")).unwrap();
        fs::write(folder.join("swapped/file"), "inside").unwrap();
        symlink(folder.parent().unwrap(), folder.join("out")).unwrap();
        fs::write(folder.parent().unwrap().join("file"), "OUTSIDE").unwrap();
    });
    let outside = picture(&share.folder().parent().unwrap().join("file"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (a, b) = (share.folder().join("swapped"), share.folder().join("out"));
            while !done.load(Ordering::Relaxed) {
                renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _done = Done(&done);
        let mut peer = Peer::of(&share);
        let mut reached = 0;
        for round in 0..ROUNDS {
            let Ok(folder) = peer.look_up(ROOT, "swapped") else { continue };
            let Ok(file) = peer.look_up(folder, "file") else { continue };
            let handle = peer.open(file, OFlags::RDWR.bits() as i32).unwrap();
            assert_eq!(peer.read(file, handle, 100).unwrap(), b"inside");
            peer.release(file, handle);
            let name = format!("new{}", round % 7);
            let create = [fields(&[OFlags::WRONLY.bits(), 0o644, 0, 0]), text(&name)].concat();
            if let Ok(created) = peer.ask(call::CREATE, folder, &create) {
                let (entry, opened) = created.split_at(ENTRY_LEN);
                peer.release(number(entry), number(opened));
            }
            let _ = peer.ask(call::UNLINK, folder, &text(&name));
            reached += 1;
        }
        assert!(reached > 0, "it was never a folder");
    });
    let around = fs::read_dir(share.folder().parent().unwrap()).unwrap();
    let names: Vec<_> = around.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(picture(&share.folder().parent().unwrap().join("file")), outside);
}

#[test]
fn devices_pipes_and_sockets_are_shown_and_not_opened() {
    let Some(()) = as_root() else { return };
    let share = Share::lend_prepared(Access::RwAll, |folder| {
        let null = rustix::fs::makedev(1, 3);
        let make = |name, kind, device| {
            mknodat(CWD, folder.join(name), kind, Mode::from_raw_mode(0o666), device).unwrap();
        };
        make("device", FileType::CharacterDevice, null);
        make("block", FileType::BlockDevice, rustix::fs::makedev(7, 0));
        make("pipe", FileType::Fifo, 0);
        make("socket", FileType::Socket, 0);
    });
    let mut peer = Peer::of(&share);
    for name in ["device", "block", "pipe", "socket"] {
        let node = peer.look_up(ROOT, name).unwrap();
        for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
            assert_eq!(peer.open(node, flags.bits() as i32), error(Errno::ACCESS), "{name}");
            let create = [fields(&[flags.bits(), 0o644, 0, 0]), text(name)].concat();
            assert_eq!(peer.ask(call::CREATE, ROOT, &create), error(Errno::ACCESS), "{name}");
        }
        let mut truncate = vec![0; 88];
        truncate[0] = 8;
        assert_eq!(peer.ask(call::SETATTR, node, &truncate), error(Errno::INVAL), "{name}");
    }
}

#[test]
fn devices_and_pipes_are_not_made() {
    let share = Share::lend(Access::RwAll);
    let mut peer = Peer::of(&share);
    for kind in [FileType::CharacterDevice, FileType::BlockDevice, FileType::Fifo] {
        let mode = kind.as_raw_mode() | 0o666;
        let body = [fields(&[mode, 0x103, 0, 0]), text("x")].concat();
        assert_eq!(peer.ask(call::MKNOD, ROOT, &body), error(Errno::PERM), "{kind:?}");
    }
    assert_eq!(fs::read_dir(share.folder()).unwrap().count(), 0);
}

#[test]
fn no_bit_makes_a_program_run_as_another_user() {
    let share = Share::lend(Access::RwAll);
    let mut peer = Peer::of(&share);
    let create = [fields(&[OFlags::RDWR.bits(), 0o7755, 0, 0]), text("created")].concat();
    peer.ask(call::CREATE, ROOT, &create).unwrap();
    let mode = FileType::RegularFile.as_raw_mode() | 0o7755;
    peer.ask(call::MKNOD, ROOT, &[fields(&[mode, 0, 0, 0]), text("made")].concat()).unwrap();
    peer.ask(call::MKDIR, ROOT, &[fields(&[0o7755, 0]), text("folder")].concat()).unwrap();
    for name in ["created", "made", "folder"] {
        let node = peer.look_up(ROOT, name).unwrap();
        let mut set = vec![0; 88];
        set[0] = 1;
        set[68..72].copy_from_slice(&0o107755_u32.to_ne_bytes());
        peer.ask(call::SETATTR, node, &set).unwrap();
        let mode = fs::metadata(share.folder().join(name)).unwrap().mode();
        assert_eq!(mode & 0o6000, 0, "{name} {mode:o}");
        let sticky = if name == "folder" { 0o1000 } else { 0 };
        assert_eq!(mode & 0o1777, sticky | 0o755, "{name}");
    }
}

#[test]
fn attributes_that_mean_something_to_the_host_are_hidden_and_refused() {
    let share =
        Share::lend_prepared(Access::RwAll, |folder| fs::write(folder.join("file"), "").unwrap());
    let path = share.folder().join("file");
    let _ = rustix::fs::setxattr(&path, "trusted.x", b"1", rustix::fs::XattrFlags::empty());
    let mut peer = Peer::of(&share);
    let file = peer.look_up(ROOT, "file").unwrap();
    for name in ["security.capability", "trusted.x", "system.posix_acl_access", "userx", "user", ""]
    {
        let get = [fields(&[100, 0]), text(name)].concat();
        assert!(peer.ask(call::GETXATTR, file, &get).is_err(), "{name}");
        let set = [fields(&[1, 0]), text(name), b"1".to_vec()].concat();
        assert!(peer.ask(call::SETXATTR, file, &set).is_err(), "{name}");
        assert!(peer.ask(call::REMOVEXATTR, file, &text(name)).is_err(), "{name}");
    }
    assert_eq!(peer.ask(call::LISTXATTR, file, &fields(&[100, 0])), Ok(Vec::new()));
}

#[test]
fn another_mount_in_the_folder_is_shown_and_not_entered() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};
    let Some(()) = as_root() else { return };
    let mut mounted = Vec::new();
    let share = Share::lend_prepared(Access::RwAll, |folder| {
        for name in ["tmpfs", "same file system"] {
            fs::create_dir(folder.join(name)).unwrap();
            mounted.push(folder.join(name));
        }
        fs::create_dir(folder.parent().unwrap().join("elsewhere")).unwrap();
        mount("other", &mounted[0], "tmpfs", MountFlags::empty(), None).unwrap();
        mount_bind(folder.parent().unwrap().join("elsewhere"), &mounted[1]).unwrap();
    });
    let mut peer = Peer::of(&share);
    let entered = ["tmpfs", "same file system"].map(|name| peer.look_up(ROOT, name));
    let opened = number(&peer.ask(call::OPENDIR, ROOT, &fields(&[0, 0])).unwrap());
    let list = [&opened.to_ne_bytes()[..], &[0; 8], &fields(&[4096]), &[0; 20]].concat();
    let listed = peer.ask(call::READDIRPLUS, ROOT, &list).unwrap();
    for place in mounted {
        unmount(place, UnmountFlags::DETACH).unwrap();
    }
    assert_eq!(entered, [error(Errno::ACCESS), error(Errno::ACCESS)]);
    assert!(String::from_utf8_lossy(&listed).contains("same file system"));
}

#[test]
fn what_is_lent_for_reading_is_not_changed_in_any_way() {
    let prepare = |folder: &Path| {
        fs::write(folder.join("file"), "text").unwrap();
        fs::create_dir(folder.join("sub")).unwrap();
        symlink("file", folder.join("link")).unwrap();
    };
    let share = Share::lend_prepared(Access::Ro, prepare);
    let before = picture(&share.folder());
    let mut peer = Peer::of(&share);
    let file = peer.look_up(ROOT, "file").unwrap();
    let sub = peer.look_up(ROOT, "sub").unwrap();
    let flags = [
        OFlags::WRONLY,
        OFlags::RDWR,
        OFlags::TRUNC,
        OFlags::APPEND | OFlags::WRONLY,
        OFlags::CREATE | OFlags::RDWR,
    ];
    for flags in flags {
        assert_eq!(peer.open(file, flags.bits() as i32), error(Errno::ROFS), "{flags:?}");
    }
    let temporary = (OFlags::TMPFILE | OFlags::RDWR).bits();
    assert_eq!(peer.open(sub, temporary as i32), error(Errno::ISDIR));
    let folder = number(&peer.ask(call::OPENDIR, sub, &fields(&[temporary, 0])).unwrap());
    let write =
        |handle: u64| [&handle.to_ne_bytes()[..], &[0; 8], &fields(&[1]), &[0; 20], b"x"].concat();
    assert_eq!(peer.ask(call::WRITE, sub, &write(folder)), error(Errno::ROFS));
    let read = peer.open(file, OFlags::RDONLY.bits() as i32).unwrap();
    assert_eq!(peer.ask(call::WRITE, file, &write(read)), error(Errno::ROFS));
    let allocate = [&read.to_ne_bytes()[..], &[0; 8], &100_u64.to_ne_bytes(), &[0; 8]].concat();
    assert_eq!(peer.ask(call::FALLOCATE, file, &allocate), error(Errno::ROFS));
    for valid in [1_u8, 2, 4, 8, 16, 32, 0x48, 0xb0] {
        let mut set = vec![0; 88];
        set[0] = valid;
        set[8..16].copy_from_slice(&read.to_ne_bytes());
        assert_eq!(peer.ask(call::SETATTR, file, &set), error(Errno::ROFS), "{valid}");
    }
    let asked = [
        (call::MKNOD, ROOT, [fields(&[0o100644, 0, 0, 0]), text("x")].concat()),
        (call::MKNOD, ROOT, [fields(&[0o010644, 0, 0, 0]), text("x")].concat()),
        (call::MKDIR, ROOT, [fields(&[0o755, 0]), text("x")].concat()),
        (call::CREATE, ROOT, [fields(&[0, 0o644, 0, 0]), text("x")].concat()),
        (call::CREATE, ROOT, [fields(&[1, 0o644, 0, 0]), text("file")].concat()),
        (call::SYMLINK, ROOT, [text("x"), text("file")].concat()),
        (call::UNLINK, ROOT, text("file")),
        (call::RMDIR, ROOT, text("sub")),
        (call::RENAME, ROOT, [&ROOT.to_ne_bytes()[..], &text("file"), &text("x")].concat()),
        (call::LINK, ROOT, [&file.to_ne_bytes()[..], &text("x")].concat()),
        (call::SETXATTR, file, [fields(&[1, 0]), text("user.x"), text("")].concat()),
        (call::REMOVEXATTR, file, text("user.x")),
        (call::ACCESS, file, fields(&[2, 0])),
    ];
    for (call, node, body) in asked {
        assert_eq!(peer.ask(call, node, &body), error(Errno::ROFS), "{call}");
    }
    assert_eq!(picture(&share.folder()), before);
}

#[test]
fn a_kernel_finds_what_is_lent_for_reading_as_it_was() {
    let Some(mounted) = Mounted::lend_prepared(Access::Ro, |folder| {
        fs::write(folder.join("file"), "text").unwrap();
    }) else {
        return;
    };
    let before = picture(&mounted.share.folder());
    let file = mounted.folder().join("file");
    assert_eq!(fs::read_to_string(&file).unwrap(), "text");
    let read_only = |done: std::io::Result<()>| {
        assert_eq!(done.unwrap_err().raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    };
    read_only(fs::write(&file, "other"));
    let mut opened = File::options().append(true).open(&file).unwrap();
    read_only(opened.write_all(b"more"));
    read_only(fs::remove_file(&file));
    read_only(fs::rename(&file, mounted.folder().join("x")));
    read_only(fs::hard_link(&file, mounted.folder().join("x")));
    read_only(fs::set_permissions(&file, fs::Permissions::from_mode(0o777)));
    read_only(fs::create_dir(mounted.folder().join("x")));
    read_only(File::open(&file).unwrap().set_modified(std::time::UNIX_EPOCH));
    assert_eq!(picture(&mounted.share.folder()), before);
}

#[test]
fn a_second_name_stays_in_the_folder() {
    let share = Share::lend_prepared(Access::RwAll, |folder| {
        fs::hard_link(folder.parent().unwrap().join("secret"), folder.join("lent by a link"))
            .unwrap();
    });
    let mut peer = Peer::of(&share);
    // What the host's user has linked into the folder is in the folder.
    let node = peer.look_up(ROOT, "lent by a link").unwrap();
    let link = [&node.to_ne_bytes()[..], &text("again")].concat();
    peer.ask(call::LINK, ROOT, &link).unwrap();
    assert_eq!(fs::metadata(share.secret()).unwrap().nlink(), 3);
    let unknown = [&999_u64.to_ne_bytes()[..], &text("x")].concat();
    assert_eq!(peer.ask(call::LINK, ROOT, &unknown), error(Errno::STALE));
    assert_eq!(peer.ask(call::LINK, 999, &link), error(Errno::STALE));
}

#[test]
fn what_the_host_moves_away_is_found_no_more() {
    let share =
        Share::lend_prepared(Access::RwAll, |folder| fs::write(folder.join("file"), "").unwrap());
    let mut peer = Peer::of(&share);
    peer.look_up(ROOT, "file").unwrap();
    fs::rename(share.folder().join("file"), share.secret()).unwrap();
    assert_eq!(peer.look_up(ROOT, "file"), error(Errno::NOENT));
}

/// A program that waits for its deadline is still a program that waits.
#[test]
fn a_pipe_of_the_hosts_does_not_hold_the_guest_up() {
    let share = Share::lend_prepared(Access::RwAll, |folder| {
        let path = CString::new(folder.join("pipe").to_str().unwrap()).unwrap();
        mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    });
    let mut peer = Peer::of(&share);
    let start = Instant::now();
    let pipe = peer.look_up(ROOT, "pipe").unwrap();
    assert!(peer.open(pipe, 0).is_err());
    let get = [fields(&[100, 0]), text("user.x")].concat();
    assert_eq!(peer.ask(call::GETXATTR, pipe, &get), error(Errno::NODATA));
    assert!(start.elapsed() < Duration::from_secs(5));
}

fn as_root() -> Option<()> {
    if rustix::process::geteuid().is_root() {
        return Some(());
    }
    eprintln!("skipped: needs root");
    None
}
