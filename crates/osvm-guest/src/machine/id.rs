//! The machine's id (machine-id(5)), by which programs know one installation from another: an image's would be that of
//! all its VMs.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

/// Below the root. What systemd's programs read.
const OWN: &str = "etc/machine-id";
/// What D-Bus's read first, where it is; mostly a link to the other.
const OF_DBUS: &str = "var/lib/dbus/machine-id";

/// Draws another one, and puts it where programs look.
pub(super) fn renew(root: &Path) -> io::Result<()> {
    let id = draw()?;
    replace(&root.join(OWN), &id)?;
    let of_dbus = root.join(OF_DBUS);
    match of_dbus.symlink_metadata() {
        Ok(_) => replace(&of_dbus, &id),
        Err(_) => Ok(()),
    }
}

/// 32 hexadecimal digits, which are a random UUID, as systemd has it.
fn draw() -> io::Result<String> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    let id = u128::from_be_bytes(bytes) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    Ok(format!("{id:032x}"))
}

/// In the place of whatever the image has there, which is not opened: what a link leads to is not the machine's id.
fn replace(path: &Path, id: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o444).open(path)?;
    writeln!(file, "{id}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc")).unwrap();
        fs::create_dir_all(root.path().join("var/lib/dbus")).unwrap();
        root
    }

    fn read(root: &Path, path: &str) -> String {
        fs::read_to_string(root.join(path)).unwrap()
    }

    #[test]
    fn each_is_another_random_uuid_on_a_line() {
        let root = root();
        let ids = [(); 2].map(|()| {
            renew(root.path()).unwrap();
            read(root.path(), OWN)
        });
        assert_ne!(ids[0], ids[1]);
        for id in ids {
            let digits = id.strip_suffix('\n').unwrap();
            assert!(digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert_eq!(&digits[12..13], "4", "{digits}");
            assert!("89ab".contains(&digits[16..17]), "{digits}");
        }
        assert!(!root.path().join(OF_DBUS).exists(), "the image has no D-Bus");
    }

    #[test]
    fn whatever_an_image_has_there_gives_way() {
        let root = root();
        let elsewhere = root.path().join("elsewhere");
        fs::write(&elsewhere, "kept").unwrap();
        symlink(&elsewhere, root.path().join(OWN)).unwrap();
        fs::write(root.path().join(OF_DBUS), "the image's").unwrap();
        renew(root.path()).unwrap();
        assert_eq!(read(root.path(), OWN), read(root.path(), OF_DBUS));
        assert_eq!(read(root.path(), "elsewhere"), "kept");
        fs::remove_file(root.path().join(OF_DBUS)).unwrap();
        symlink("nowhere", root.path().join(OF_DBUS)).unwrap();
        renew(root.path()).unwrap();
        assert_eq!(read(root.path(), OWN), read(root.path(), OF_DBUS));
    }

    #[test]
    fn an_image_that_has_no_place_for_it_is_told_of() {
        renew(tempfile::tempdir().unwrap().path()).unwrap_err();
        let root = root();
        fs::create_dir(root.path().join(OWN)).unwrap();
        renew(root.path()).unwrap_err();
    }
}
