//! Where programs read which resolver to ask.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// Replaces `resolv.conf` in the image's `/etc`; if it was a link, the link itself.
pub(super) fn write(etc: &Path) -> io::Result<()> {
    fs::create_dir_all(etc)?;
    let fresh = etc.join(".resolv.conf.osvm");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::File::create_new(&fresh)?.write_all(b"nameserver 127.0.0.1\n")?;
    fs::rename(&fresh, etc.join("resolv.conf"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_replaced_and_what_it_led_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, other) = (dir.path().join("etc"), dir.path().join("stub"));
        fs::create_dir(&etc).unwrap();
        fs::write(&other, "other").unwrap();
        symlink(&other, etc.join("resolv.conf")).unwrap();
        symlink(&other, etc.join(".resolv.conf.osvm")).unwrap();
        write(&etc).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "other");
        let text = fs::read_to_string(etc.join("resolv.conf")).unwrap();
        assert_eq!(text, "nameserver 127.0.0.1\n");
    }

    #[test]
    fn an_image_without_etc_gets_one() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("etc")).unwrap();
        assert!(dir.path().join("etc/resolv.conf").exists());
    }
}
