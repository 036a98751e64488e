//! Processes of the host, as `/proc` has them.

use std::fs;

use anyhow::{Context, Result};

/// Each, and its parent.
pub(super) fn processes() -> Result<Vec<(u64, u64)>> {
    let all = fs::read_dir("/proc")?.flatten();
    let stats = all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    Ok(stats.filter_map(|stat| of_stat(&stat)).collect())
}

/// A process, its children, and theirs.
pub(super) fn family(head: u64) -> Result<Vec<u64>> {
    let all = processes()?;
    let mut family = vec![head];
    let mut place = 0;
    while let Some(&parent) = family.get(place) {
        family.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        place += 1;
    }
    Ok(family)
}

/// What a process has of the kinds of memory whose names begin so.
pub(super) fn memory_kib(pid: &str, kind: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let told = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok(sum_kib(&told, kind))
}

fn sum_kib(told: &str, kind: &str) -> u64 {
    let lines = told.lines().filter(|line| line.starts_with(kind));
    lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
}

/// The name stands in parentheses between them, and may hold any.
fn of_stat(stat: &str) -> Option<(u64, u64)> {
    let (pid, _) = stat.split_once(' ')?;
    let (_, rest) = stat.rsplit_once(") ")?;
    Some((pid.parse().ok()?, rest.split(' ').nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_told_whatever_the_process_is_called() {
        assert_eq!(of_stat("7 (a) b) (c) S 3 7 7 0"), Some((7, 3)));
    }

    #[test]
    fn private_memory_is_what_is_clean_and_what_is_not() {
        let told = "Pss: 90 kB\nShared_Dirty: 8 kB\nPrivate_Clean:   4 kB\nPrivate_Dirty: 30 kB\n";
        assert_eq!(sum_kib(told, "Private_"), 34);
    }
}
