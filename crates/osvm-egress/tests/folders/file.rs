//! A single file, lent: it is its own root, and there is nothing beside it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use osvm_spec::Access;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::mount::Mounted;
use crate::peer::{Peer, ROOT, call, fields, text};
use crate::share::{Share, picture};

const RDWR: u32 = OFlags::RDWR.bits();

/// What names something in a folder, with the names of what lies around the file and of what does not.
fn by_name() -> Vec<(u32, Vec<u8>)> {
    let mut calls = Vec::new();
    for name in ["beside", "file", "new", "secret"] {
        let to = |node: u64| [&node.to_ne_bytes()[..], &text(name)].concat();
        calls.extend([
            (call::LOOKUP, text(name)),
            (call::CREATE, [fields(&[RDWR, 0o644, 0, 0]), text(name)].concat()),
            (call::MKNOD, [fields(&[0o100_644, 0, 0, 0]), text(name)].concat()),
            (call::MKDIR, [fields(&[0o755, 0]), text(name)].concat()),
            (call::SYMLINK, [text(name), text("/etc/passwd")].concat()),
            (call::UNLINK, text(name)),
            (call::RMDIR, text(name)),
            (call::RENAME, [to(ROOT), text("other")].concat()),
            (call::LINK, to(ROOT)),
        ]);
    }
    calls
}

#[test]
fn there_is_no_name_in_a_file_whoever_asks() {
    for access in [Access::Ro, Access::Rw, Access::RwAll] {
        let share = Share::lend_file(access);
        let before = picture(&share.folder());
        let mut peer = Peer::of(&share);
        for (call, body) in by_name() {
            let answer = peer.ask(call, ROOT, &body);
            let expected = match (access, call) {
                (_, call::LOOKUP) => Errno::NOTDIR,
                (Access::Ro, _) => Errno::ROFS,
                _ => Errno::NOTDIR,
            };
            assert_eq!(answer, Err(expected.raw_os_error()), "{access}: {call}");
        }
        let opened = peer.ask(call::OPENDIR, ROOT, &fields(&[0, 0]));
        assert_eq!(opened, Err(Errno::NOTDIR.raw_os_error()));
        let handle = peer.open(ROOT, OFlags::RDONLY.bits() as i32).unwrap();
        let list = [&handle.to_ne_bytes()[..], &[0; 8], &fields(&[4096, 0, 0, 0, 0, 0])].concat();
        assert_eq!(peer.ask(call::READDIRPLUS, ROOT, &list), Err(Errno::NOTDIR.raw_os_error()));
        assert_eq!(peer.read(ROOT, handle, 100).unwrap(), b"lent");
        assert_eq!(picture(&share.folder()), before);
    }
}

#[test]
fn a_file_lent_for_reading_is_not_written_nor_are_its_mode_and_times() {
    let share = Share::lend_file(Access::Ro);
    let before = picture(&share.folder());
    let mut peer = Peer::of(&share);
    for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::RDONLY | OFlags::TRUNC] {
        let opened = peer.open(ROOT, flags.bits() as i32);
        assert_eq!(opened, Err(Errno::ROFS.raw_os_error()), "{flags:?}");
    }
    // Mode, size, both times, and the times of now.
    for valid in [1 << 0, 1 << 3, 1 << 4, 1 << 5, 1 << 7, 1 << 8] {
        let body = [fields(&[valid, 0]), vec![0; 80]].concat();
        let answer = peer.ask(call::SETATTR, ROOT, &body);
        assert_eq!(answer, Err(Errno::ROFS.raw_os_error()), "{valid}");
    }
    let attribute = [fields(&[1, 0]), text("user.x"), b"y".to_vec()].concat();
    assert_eq!(peer.ask(call::SETXATTR, ROOT, &attribute), Err(Errno::ROFS.raw_os_error()));
    assert_eq!(picture(&share.folder()), before);
}

#[test]
fn a_kernel_mounts_a_file_and_both_sides_see_what_the_other_writes() {
    let Some(mounted) = Mounted::lend_file(Access::Rw) else { return };
    let (guest, host) = (mounted.file(), mounted.share.folder().join("file"));
    assert_eq!(fs::read_to_string(&guest).unwrap(), "lent");
    File::options().append(true).open(&guest).unwrap().write_all(b" and written").unwrap();
    assert_eq!(fs::read_to_string(&host).unwrap(), "lent and written");
    fs::write(&host, "by the host").unwrap();
    assert_eq!(fs::read_to_string(&guest).unwrap(), "by the host");
    fs::set_permissions(&guest, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(fs::metadata(&host).unwrap().mode() & 0o7777, 0o640);
    assert!(fs::read_dir(&guest).is_err() && fs::read(guest.join("beside")).is_err());
    assert!(
        fs::remove_file(&guest).is_err() && fs::rename(&guest, guest.with_extension("x")).is_err()
    );
    mounted.reconnect();
    assert_eq!(fs::read_to_string(&guest).unwrap(), "by the host");
}

#[test]
fn what_takes_a_files_place_on_the_host_is_not_followed() {
    let Some(mounted) = Mounted::lend_file(Access::Ro) else { return };
    let folder = mounted.share.folder();
    fs::rename(folder.join("beside"), folder.join("file")).unwrap();
    assert_eq!(fs::read_to_string(mounted.file()).unwrap(), "lent");
}
