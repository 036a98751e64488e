//! Log files of VMs: bounded while they grow, kept for a while after their VM has gone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A log that never outgrows twice its cap: a full file becomes `<name>.1`, replacing the last one.
#[derive(Debug)]
pub struct CappedLog {
    path: PathBuf,
    file: File,
    written: u64,
    cap: u64,
}

impl CappedLog {
    pub const CAP: u64 = 4 << 20;

    pub fn open(path: &Path, cap: u64) -> io::Result<Self> {
        let file = append(path)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, written, cap })
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written > 0 && self.written + bytes.len() as u64 > self.cap {
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
            self.file = append(&self.path)?;
            self.written = 0;
        }
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// One line with the time (UTC, seconds since 1970) in front.
    pub fn line(&mut self, text: &str) -> io::Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.write(format!("{}.{:03} {text}\n", now.as_secs(), now.subsec_millis()).as_bytes())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// The logs of stopped VMs of one server: `<logs>/<name>/<id>/`.
#[derive(Debug, Clone)]
pub struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// How many stopped VMs of one server keep their logs.
    pub const GENERATIONS: usize = 5;

    pub fn new(logs: &Path, name: &str) -> Self {
        Self { folder: logs.join(name) }
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
            if let Err(error) = fs::remove_dir_all(folder) {
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
    use super::*;

    #[test]
    fn a_flood_fills_two_files_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let mut log = CappedLog::open(&path, 1000).unwrap();
        for _ in 0..1000 {
            log.write(&[b'x'; 99]).unwrap();
        }
        let sizes: u64 = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(sizes <= 2000, "{sizes} bytes");
    }

    #[test]
    fn only_the_newest_generations_are_kept() {
        let logs = tempfile::tempdir().unwrap();
        let kept = Kept::new(logs.path(), "demo");
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
