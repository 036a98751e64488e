//! A folder to lend, and what lies beside it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use osvm_egress::folders::Folder;
use osvm_spec::Access;
use tempfile::TempDir;

/// In every file beside the folder.
const SECRET: &[u8] = b"what the guest must not see";

/// What makes the host run code.
const PROTECTED: [&str; 4] =
    [".git/config", ".git/hooks/pre-commit", ".envrc", ".vscode/tasks.json"];

pub(super) struct Scene {
    folder: TempDir,
    beside: BTreeMap<PathBuf, Seen>,
    inside: BTreeMap<PathBuf, Seen>,
}

/// All of a file but when it was read.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    links: u64,
    modified: (i64, i64),
    content: Vec<u8>,
}

impl Scene {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        for made in ["beside", "lent/folder", "lent/.git/hooks", "lent/.vscode"] {
            fs::create_dir_all(root.join(made)).expect("a new folder");
        }
        for path in ["canary", "beside/canary"] {
            fs::write(root.join(path), SECRET).expect("a new file");
        }
        for path in PROTECTED.into_iter().chain(["file", "folder/file", ".git/HEAD"]) {
            fs::write(root.join("lent").join(path), path).expect("a new file");
        }
        for (target, name) in [("../canary", "out"), ("../beside", "away"), ("folder/file", "in")] {
            symlink(target, root.join("lent").join(name)).expect("a new link");
        }
        symlink(root.join("canary"), root.join("lent/absolute")).expect("a new link");
        let beside = everything(root, |path| !path.starts_with("lent"));
        let inside = everything(&root.join("lent"), |_| true);
        Self { folder, beside, inside }
    }

    pub(super) fn lent(&self) -> Folder {
        let root = File::open(self.folder.path().join("lent")).expect("the folder is there");
        Folder::hold(root.into()).expect("it is a folder")
    }

    /// Whether an answer has what lies beside the folder.
    pub(super) fn tells(&self, answer: &[u8]) -> bool {
        answer.windows(SECRET.len()).any(|window| window == SECRET)
    }

    pub(super) fn check(&self, access: Access) {
        let root = self.folder.path();
        assert_eq!(everything(root, |path| !path.starts_with("lent")), self.beside, "beside it");
        let lent = root.join("lent");
        match access {
            Access::Ro => assert_eq!(everything(&lent, |_| true), self.inside, "in it"),
            Access::Rw => {
                for path in PROTECTED {
                    let seen =
                        fs::symlink_metadata(lent.join(path)).map(|_| look(&lent.join(path)));
                    assert_eq!(seen.ok().as_ref(), self.inside.get(Path::new(path)), "{path}");
                }
            }
            Access::RwAll => {}
        }
    }
}

/// Everything below a folder that is asked for, by its path from there.
fn everything(root: &Path, is_asked: impl Fn(&Path) -> bool) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("own folder").flatten() {
            let path = entry.path();
            let below = path.strip_prefix(root).expect("below").to_owned();
            if !is_asked(&below) {
                continue;
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path.clone());
            }
            seen.insert(below, look(&path));
        }
    }
    seen
}

fn look(path: &Path) -> Seen {
    let stat = fs::symlink_metadata(path).expect("own file");
    let content = if stat.is_file() {
        fs::read(path).expect("own file")
    } else if stat.is_symlink() {
        fs::read_link(path).expect("own link").into_os_string().into_encoded_bytes()
    } else {
        Vec::new()
    };
    Seen {
        mode: stat.mode(),
        owner: (stat.uid(), stat.gid()),
        links: stat.nlink(),
        modified: (stat.mtime(), stat.mtime_nsec()),
        content,
    }
}
