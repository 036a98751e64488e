//! What `/proc/<pid>/stat` says of a process.

use std::io;
use std::path::Path;

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// Clock ticks from the host's boot to the process's start.
    pub(super) start_time: u64,
    /// Clock ticks on a processor, of all its threads, in user space and in the kernel.
    pub(super) busy: u64,
    /// It runs, or waits for a processor.
    pub(super) runnable: bool,
    /// It has ended and waits for its parent to reap it.
    pub(super) ended: bool,
}

/// `None` when there is no such process. `proc` is where procfs is mounted.
pub(super) fn read(proc: &Path, pid: u32) -> io::Result<Option<Stat>> {
    match std::fs::read(proc.join(pid.to_string()).join("stat")) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A process that ends while its file is read gives ESRCH.
fn is_gone(error: &io::Error) -> bool {
    let gone = rustix::io::Errno::SRCH.raw_os_error();
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(gone)
}

/// The command name (field 2) may hold spaces and parentheses, so fields count from the last `)`.
fn parse(stat: &[u8]) -> Option<Stat> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let (runnable, ended) = (state == "R", matches!(state, "Z" | "X"));
    let user: u64 = fields.nth(10)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let start_time = fields.nth(6)?.parse().ok()?;
    Some(Stat { start_time, busy: user.saturating_add(system), runnable, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNS: &str = "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 7 5 0 0 20 0 1 0 98765 1 1";
    const STAT: Stat = Stat { start_time: 98765, busy: 12, runnable: false, ended: false };

    #[test]
    fn the_times_are_found_behind_a_name_with_parentheses() {
        assert_eq!(parse(RUNS.as_bytes()), Some(STAT));
    }

    #[test]
    fn a_zombie_has_ended() {
        let stat = parse(RUNS.replace(" S ", " Z ").as_bytes());
        assert_eq!(stat, Some(Stat { ended: true, ..STAT }));
    }

    #[test]
    fn a_cut_or_empty_file_is_no_process() {
        for text in ["", "42", "42 (x", "42 (x) S 1 2 3"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_made_up_proc_tree_is_read() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("42")).unwrap();
        std::fs::write(proc.path().join("42/stat"), RUNS).unwrap();
        assert_eq!(read(proc.path(), 42).unwrap().unwrap().start_time, 98765);
        assert_eq!(read(proc.path(), 43).unwrap(), None);
    }
}
