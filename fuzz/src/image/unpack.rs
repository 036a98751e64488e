//! What is on a disk, by a reader that is not osvm's: `unsquashfs`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::folder::{self, Seen};

pub(super) fn everything(mut disk: File) -> BTreeMap<PathBuf, Seen> {
    disk.rewind().expect("a file");
    let folder = tempfile::tempdir().expect("a folder");
    let (named, root) = (folder.path().join("disk"), folder.path().join("root"));
    io::copy(&mut disk, &mut File::create(&named).expect("a new file")).expect("a copy");
    let unpacked = Command::new("unsquashfs")
        // Not every file system of temporary files has attributes.
        .args(["-no-progress", "-quiet", "-no-xattrs", "-dest"])
        .args([&root, &named])
        .stdout(Stdio::null())
        .status()
        .expect("unsquashfs is installed (squashfs-tools)");
    assert!(unpacked.success(), "it is no disk");
    folder::everything(&root)
}
