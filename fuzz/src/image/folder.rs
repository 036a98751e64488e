//! A folder out of bytes, and what is in a folder.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// What a disk must keep of one name. Hard links show by their content alone.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Folder { permissions: u32 },
    File { permissions: u32, content: Vec<u8> },
    Symlink { target: PathBuf },
}

/// Steps of four bytes: what is made, in which folder, of what size, of what content or mode.
pub(super) fn fill(root: &Path, bytes: &[u8]) {
    let (mut folders, mut files) = (vec![root.to_owned()], Vec::new());
    for (count, step) in bytes.chunks_exact(4).take(64).enumerate() {
        let [what, which, size, content] = [step[0], step[1], step[2], step[3]];
        let parent = &folders[usize::from(which) % folders.len()];
        let long = "x".repeat(usize::from(which));
        let path = parent.join(format!("{count}-{long}").chars().take(250).collect::<String>());
        match what % 5 {
            0 => {
                fs::create_dir(&path).expect("a new folder");
                folders.push(path);
            }
            1 => {
                fs::write(&path, written(size, content)).expect("a new file");
                files.push(path);
            }
            2 => symlink(format!("{}{content}", "../".repeat(size.into())), path).expect("a link"),
            3 if !files.is_empty() => {
                let first = &files[usize::from(content) % files.len()];
                fs::hard_link(first, &path).expect("another name");
            }
            _ => permit(parent, u32::from(content)),
        }
    }
}

/// Sizes around those of blocks and fragments; content that packs well, and some that does not.
fn written(size: u8, content: u8) -> Vec<u8> {
    let length = usize::from(size) * 2048 + usize::from(content % 3);
    let noisy = content % 2 == 1;
    let mut state = u32::from(content) + 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if noisy { (state >> 24) as u8 } else { content / 64 }
        })
        .collect()
}

/// The owner's rights stay, or nothing more could be made in it.
fn permit(folder: &Path, bits: u32) {
    fs::set_permissions(folder, Permissions::from_mode(0o700 | bits)).expect("own folder");
}

/// Everything below a folder, by its path from there.
pub(super) fn everything(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("own folder").flatten() {
            let path = entry.path();
            let below = path.strip_prefix(root).expect("below").to_owned();
            seen.insert(below, look(&path));
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            }
        }
    }
    seen
}

fn look(path: &Path) -> Seen {
    let stat = fs::symlink_metadata(path).expect("own file");
    let permissions = stat.mode() & 0o7777;
    if stat.is_dir() {
        Seen::Folder { permissions }
    } else if stat.is_symlink() {
        Seen::Symlink { target: fs::read_link(path).expect("own link") }
    } else {
        Seen::File { permissions, content: fs::read(path).expect("own file") }
    }
}
