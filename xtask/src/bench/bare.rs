//! The floor: the same guest in a VMM that nobody manages.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// The line that the agent prints first.
const FIRST_LINE: &str = "osvm-guest: up";

/// What a VMM that osvm started was told about its guest.
pub(super) struct Machine {
    program: String,
    guest: Vec<String>,
}

impl Machine {
    /// Reads the arguments of a running VMM. Only those that make the guest what it is are kept.
    pub(super) fn of(pid: u64) -> Result<Self> {
        const KEPT: [&str; 7] = ["-accel", "-cpu", "-m", "-smp", "-kernel", "-initrd", "-append"];
        let line = fs::read(format!("/proc/{pid}/cmdline"))?;
        let arguments: Vec<_> =
            line.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part)).collect();
        let mut guest = Vec::new();
        for pair in arguments.windows(2) {
            match &*pair[0] {
                flag if KEPT.contains(&flag) => {
                    guest.extend([flag.to_owned(), file(pid, &pair[1])]);
                }
                // Its memory is a file that only osvm's process has.
                "-M" | "-machine" => {
                    let plain = pair[1].split(',').filter(|part| !part.contains("memory-backend"));
                    guest.extend([pair[0].to_string(), plain.collect::<Vec<_>>().join(",")]);
                }
                _ => {}
            }
        }
        let program = fs::read_link(format!("/proc/{pid}/exe"))?;
        let program = program.to_str().context("read the VMM's path")?.to_owned();
        ensure!(guest.iter().any(|flag| flag == "-kernel"), "VMM {program} names no kernel");
        Ok(Self { program, guest })
    }

    /// From the start of the process to the guest's first user-space line.
    pub(super) fn boot(&self) -> Result<Duration> {
        let start = Instant::now();
        let mut vmm = Command::new(&self.program)
            .args(&self.guest)
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-serial", "stdio"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", self.program))?;
        let console = BufReader::new(vmm.stdout.take().context("read the console")?);
        let up = console.lines().map_while(Result::ok).any(|line| line.contains(FIRST_LINE));
        let took = start.elapsed();
        vmm.kill()?;
        vmm.wait()?;
        ensure!(up, "the bare VMM never printed {FIRST_LINE:?}");
        Ok(took)
    }
}

/// A descriptor that only that process has, as the path of the file behind it.
fn file(pid: u64, argument: &str) -> String {
    let inherited = argument.strip_prefix("/proc/self/fd/");
    let path = inherited.and_then(|fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok());
    path.map_or_else(|| argument.to_owned(), |path| path.display().to_string())
}
