//! The root that servers see: a read-only disk under an overlay whose upper layer is memory.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use rustix::ffi::CStr;
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{chdir, chroot};

use super::InitError;
use super::mounts::{self, SCRATCH, make_folder};
use crate::console::say;

const IMAGE: &str = "/.osvm/image";
const ROOT: &str = "/.osvm/root";

/// The file system types of an image, each with its magic number and where that stands.
const TYPES: [(&str, u64, &[u8]); 3] = [
    ("squashfs", 0, b"hsqs"),
    ("erofs", 1024, &0xE0F5_E1E2_u32.to_le_bytes()),
    ("ext4", 1024 + 56, &0xEF53_u16.to_le_bytes()),
];

/// Mounts the disk, lays memory over it, and makes that `/`.
pub(super) fn switch_to_disk(disk: &Path) -> Result<(), InitError> {
    let kind = detect(disk)?;
    make_folder(IMAGE)?;
    let read_only = MountFlags::RDONLY | MountFlags::NODEV;
    mount(disk, IMAGE, kind, read_only, None)
        .map_err(InitError::act(format!("mount the disk as {kind}")))?;
    mounts::scratch()?;
    lay_over()?;
    free_own_files();
    enter()
}

/// Without a disk the initramfs is the root: the agent's files vanish from it, and memory to write to is
/// mounted.
pub(super) fn use_initramfs() -> Result<(), InitError> {
    free_own_files();
    mounts::scratch()
}

fn detect(disk: &Path) -> Result<&'static str, InitError> {
    let file = File::open(disk).map_err(InitError::act("open the disk"))?;
    let has = |at: u64, magic: &[u8]| {
        let mut found = vec![0; magic.len()];
        file.read_exact_at(&mut found, at).is_ok() && found == magic
    };
    let found = TYPES.iter().find(|(_, at, magic)| has(*at, magic));
    found.map(|(kind, ..)| *kind).ok_or(InitError::UnknownDisk)
}

fn lay_over() -> Result<(), InitError> {
    let folder = |name: &str| format!("{SCRATCH}/{name}");
    make_folder(&folder("upper"))?;
    make_folder(&folder("work"))?;
    make_folder(ROOT)?;
    // The upper layer's root stands for the image's own: as anybody may enter that, so this.
    let open_to_all = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder("upper"), open_to_all).map_err(InitError::act("open the root"))?;
    mount("root", ROOT, "overlay", MountFlags::NODEV, OVERLAY_OPTIONS)
        .map_err(InitError::act("lay memory over the disk"))
}

const OVERLAY_OPTIONS: &CStr =
    c"lowerdir=/.osvm/image,upperdir=/.osvm/scratch/upper,workdir=/.osvm/scratch/work";

/// Moves what is mounted so far into the new root, and the new root to `/`.
fn enter() -> Result<(), InitError> {
    for name in ["dev", "proc", "sys", SCRATCH.trim_start_matches('/')] {
        let target = format!("{ROOT}/{name}");
        make_folder(&target)?;
        mount_move(format!("/{name}"), target).map_err(InitError::act(format!("move /{name}")))?;
    }
    chdir(ROOT).map_err(InitError::act("enter the root"))?;
    mount_move(".", "/").map_err(InitError::act("move the root"))?;
    chroot(".").map_err(InitError::act("change the root"))
}

/// Gives the memory of the agent's own files back: they were loaded, and the initramfs lives in memory.
fn free_own_files() {
    for file in ["/.osvm/agent", "/.osvm/modules"] {
        let path = Path::new(file);
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                say(format_args!("failed to free {file}: {error}"));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(at: usize, magic: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut content = vec![0; 4096];
        content[at..at + magic.len()].copy_from_slice(magic);
        fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn the_type_of_a_disk_is_told_by_its_magic() {
        assert_eq!(detect(disk(0, b"hsqs").path()).unwrap(), "squashfs");
        assert_eq!(detect(disk(1024, &[0xE2, 0xE1, 0xF5, 0xE0]).path()).unwrap(), "erofs");
        assert_eq!(detect(disk(1080, &[0x53, 0xEF]).path()).unwrap(), "ext4");
    }

    #[test]
    fn a_disk_of_another_type_or_cut_off_is_refused() {
        assert!(matches!(detect(disk(0, b"").path()), Err(InitError::UnknownDisk)));
        let cut = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(detect(cut.path()), Err(InitError::UnknownDisk)));
    }
}
