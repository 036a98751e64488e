//! Log files of VMs: bounded while they grow, kept for a while after their VM has gone.

use std::fs;
use std::path::{Path, PathBuf};

use osvm_spec::ServerName;
pub use osvm_vmm::CappedLog;

use crate::remove::remove;

/// The logs of stopped VMs of one server: `<logs>/<name>/<id>/`.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// How many stopped VMs of one server keep their logs.
    pub const GENERATIONS: usize = 5;

    pub fn new(logs: &Path, server: &ServerName) -> Self {
        Self { folder: logs.join(server.as_str()) }
    }

    pub fn of(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// The folder of the VM that stopped last.
    pub fn latest(&self) -> Option<PathBuf> {
        self.by_age().pop()
    }

    /// Removes all but the newest generations.
    pub fn prune(&self) {
        let folders = self.by_age();
        let excess = folders.len().saturating_sub(Self::GENERATIONS);
        for folder in &folders[..excess] {
            // Another VM of this server may end at the same time, and remove the same ones.
            if let Err(error) = remove(folder) {
                tracing::warn!(folder = %folder.display(), %error, "can't prune logs");
            }
        }
    }

    /// Oldest first.
    fn by_age(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut folders: Vec<_> = entries
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        folders.sort();
        folders.into_iter().map(|(_, path)| path).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_the_newest_generations_are_kept() {
        let logs = tempfile::tempdir().unwrap();
        let kept = Kept::new(logs.path(), &"demo".parse().unwrap());
        for n in 0..8 {
            fs::create_dir_all(kept.of(&n.to_string())).unwrap();
            let hour = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(3600 * n);
            File::open(kept.of(&n.to_string())).unwrap().set_modified(hour).unwrap();
        }
        kept.prune();
        assert_eq!(fs::read_dir(logs.path().join("demo")).unwrap().count(), Kept::GENERATIONS);
        assert_eq!(kept.latest(), Some(kept.of("7")));
    }
}
