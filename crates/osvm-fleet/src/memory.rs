//! What a VMM's process holds of the host's memory, read from `/proc`.

use std::fs;
use std::path::Path;

use tokio::task::spawn_blocking;

/// Memory of one process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All that it maps and that is there (`Rss`).
    pub resident: u64,
    /// The same, with each page divided by the number of its mappings (`Pss`). Over all processes, these add up.
    pub proportional: u64,
    /// Of `resident`, what is mapped elsewhere, too (`Shared_Clean`, `Shared_Dirty`).
    pub shared: u64,
    /// Of `resident`, what nobody else maps (`Private_Clean`, `Private_Dirty`).
    pub unique: u64,
}

impl Memory {
    /// Nothing is known of a process that has gone.
    pub fn of(proc: &Path, pid: u32) -> Option<Self> {
        let text = fs::read_to_string(proc.join(pid.to_string()).join("smaps_rollup")).ok()?;
        let bytes = |name| bytes(&text, name);
        Some(Self {
            resident: bytes("Rss")?,
            proportional: bytes("Pss")?,
            shared: bytes("Shared_Clean")? + bytes("Shared_Dirty")?,
            unique: bytes("Private_Clean")? + bytes("Private_Dirty")?,
        })
    }

    /// The same, with nobody else kept waiting: the kernel looks at each page, which takes milliseconds.
    pub(crate) async fn measured(proc: &Path, pid: u32) -> Option<Self> {
        let proc = proc.to_owned();
        spawn_blocking(move || Self::of(&proc, pid)).await.ok().flatten()
    }
}

/// A field of files such as `meminfo`: `Pss:      12 kB`.
pub(crate) fn bytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_resident_is_shared_or_unique() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("7")).unwrap();
        let text = "00400000-7fff Pss: 1 kB [rollup]\nRss:    100 kB\nPss:   60 kB\nPss_Dirty: 2 kB\n\
                    Shared_Clean: 50 kB\nShared_Dirty: 7 kB\nPrivate_Clean: 40 kB\nPrivate_Dirty: 3 kB\n";
        fs::write(proc.path().join("7/smaps_rollup"), text).unwrap();
        let kib = |kib: u64| kib * 1024;
        let memory =
            Memory { resident: kib(100), proportional: kib(60), shared: kib(57), unique: kib(43) };
        assert_eq!(Memory::of(proc.path(), 7), Some(memory));
        assert_eq!(Memory::of(proc.path(), 8), None);
    }
}
