//! What the VM uses, from `/proc`.

use std::fs;
use std::path::Path;

use osvm_wire::message::Stats;

/// The kernel counts CPU time in hundredths of a second towards user space (`USER_HZ`), on every machine.
const MILLIS_PER_TICK: u64 = 10;

/// Reads the figures below `proc`; what the kernel does not offer is 0.
pub(crate) fn read(proc: &Path, sessions: u32) -> Stats {
    let text = |name: &str| fs::read_to_string(proc.join(name)).unwrap_or_default();
    let meminfo = text("meminfo");
    let bytes = |field| counter(&meminfo, field) * 1024;
    let dropped = bytes("MemFree:") + bytes("Buffers:") + bytes("Cached:") + bytes("SReclaimable:");
    // Shared memory counts as cache, but can't be dropped.
    let used = bytes("MemTotal:").saturating_sub(dropped) + bytes("Shmem:");
    Stats {
        memory_total: bytes("MemTotal:"),
        memory_available: bytes("MemAvailable:"),
        memory_used: used,
        uptime_millis: hundredths(&text("uptime")) * 10,
        cpu_millis: cpu_ticks(&text("stat")) * MILLIS_PER_TICK,
        load_percent: hundredths(&text("loadavg")) as u32,
        processes: processes(proc),
        oom_kills: oom_kills(proc),
        sessions,
    }
}

/// How many processes the kernel has killed for want of memory.
pub(crate) fn oom_kills(proc: &Path) -> u64 {
    counter(&fs::read_to_string(proc.join("vmstat")).unwrap_or_default(), "oom_kill")
}

/// The number after `name` at the start of a line.
pub(crate) fn counter(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    });
    value.unwrap_or(0)
}

/// The first number of a text, which the kernel writes with two decimals, times 100.
fn hundredths(text: &str) -> u64 {
    let number = text.split_whitespace().next().unwrap_or_default();
    let digits: String = number.chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// User, nice, system, irq, softirq and steal of all CPUs; not idle, not waiting for disks.
fn cpu_ticks(stat: &str) -> u64 {
    let line = stat.lines().next().unwrap_or_default();
    let fields = line.split_whitespace().skip(1).take(8);
    let ticks: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
    let idle = |index: &usize| matches!(index, 3 | 4);
    ticks.iter().enumerate().filter(|(index, _)| !idle(index)).map(|(_, ticks)| ticks).sum()
}

fn processes(proc: &Path) -> u32 {
    let Ok(entries) = fs::read_dir(proc) else { return 0 };
    let is_pid = |name: &str| name.bytes().all(|byte| byte.is_ascii_digit());
    let pids = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_pid));
    // Threads of the kernel have no command line of their own to run.
    pids.filter(|entry| fs::read_link(entry.path().join("exe")).is_ok()).count() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_files_below_proc() {
        let proc = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(proc.path().join(name), text).unwrap();
        write(
            "meminfo",
            "MemTotal: 1000 kB\nMemFree: 300 kB\nMemAvailable: 500 kB\nBuffers: 10 kB\n\
             Cached: 200 kB\nShmem: 40 kB\nSReclaimable: 20 kB\n",
        );
        write("uptime", "12.34 20.00\n");
        write("loadavg", "0.57 0.10 0.01 1/40 99\n");
        write("stat", "cpu 10 1 20 5000 70 3 4 2 0 0\ncpu0 10 1 20 5000 70 3 4 2 0 0\n");
        write("vmstat", "pgfault 7\noom_kill 2\n");
        let expected = Stats {
            memory_total: 1000 * 1024,
            memory_available: 500 * 1024,
            memory_used: 510 * 1024,
            uptime_millis: 12_340,
            cpu_millis: 400,
            load_percent: 57,
            processes: 0,
            oom_kills: 2,
            sessions: 3,
        };
        assert_eq!(read(proc.path(), 3), expected);
    }

    #[test]
    fn a_kernel_that_offers_nothing_gives_zeros() {
        let proc = tempfile::tempdir().unwrap();
        assert_eq!(read(proc.path(), 0), Stats::default());
    }

    #[test]
    fn this_machine_has_memory_and_processes() {
        let stats = read(Path::new("/proc"), 0);
        assert!(stats.memory_total > stats.memory_used, "{stats:?}");
        assert!(stats.processes > 0 && stats.uptime_millis > 0, "{stats:?}");
    }
}
