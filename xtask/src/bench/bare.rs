//! The floor: the same guest in a VMM that nobody manages.

pub(super) mod echo;
mod firecracker;
pub(super) mod qemu;

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::NamedTempFile;

/// The line that the agent prints first.
const FIRST_LINE: &str = "osvm-guest: up";

/// What a VMM that osvm started was told about its guest.
pub(super) struct Machine {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// Named among the arguments.
    _file: Option<NamedTempFile>,
}

impl Machine {
    /// As that of a running VMM, by its process and its run directory.
    pub(super) fn of(pid: u64, run_dir: &Path) -> Result<Self> {
        let program =
            fs::read_link(format!("/proc/{pid}/exe")).context("find the VMM's program")?;
        if program.ends_with("firecracker") {
            return firecracker::machine(program, pid, run_dir);
        }
        Ok(Self { program, arguments: qemu::arguments(pid)?, _file: None })
    }

    /// From the start of the process to the guest's first user-space line.
    pub(super) fn boot(&self) -> Result<Duration> {
        let start = Instant::now();
        let mut vmm = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", self.program.display()))?;
        let console = BufReader::new(vmm.stdout.take().context("read the console")?);
        let up = console.lines().map_while(Result::ok).any(|line| line.contains(FIRST_LINE));
        let took = start.elapsed();
        vmm.kill()?;
        vmm.wait()?;
        ensure!(up, "the bare VMM never printed {FIRST_LINE:?}");
        Ok(took)
    }
}
