//! The command under measurement, with a home of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::pipe::Pipe;
use super::timed;
use crate::stage;

/// Set up when made; stops its VMs and removes its home when dropped.
pub(super) struct Osvm {
    program: PathBuf,
    home: TempDir,
    /// The process whose network it has, if that is not the host's.
    network: Option<u32>,
}

impl Osvm {
    pub(super) fn new(program: &Path) -> Result<Self> {
        Self::with(program, None)
    }

    /// In the network of that process.
    pub(super) fn within(program: &Path, network: u32) -> Result<Self> {
        Self::with(program, Some(network))
    }

    fn with(program: &Path, network: Option<u32>) -> Result<Self> {
        let program =
            fs::canonicalize(program).with_context(|| format!("find {}", program.display()))?;
        let home =
            tempfile::Builder::new().prefix("osvm-bench-").tempdir().context("make a home")?;
        let runtime = home.path().join("vms");
        fs::create_dir(&runtime).with_context(|| format!("make {}", runtime.display()))?;
        let osvm = Self { program, home, network };
        osvm.ok(&["setup"])?;
        Ok(osvm)
    }

    /// Standard output of a command that must work.
    pub(super) fn ok(&self, args: &[&str]) -> Result<String> {
        let output = self.command(args).output().context("run osvm")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "osvm {}: {stderr}", args.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    pub(super) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Process id and run directory of a VM's VMM.
    pub(super) fn vmm(&self, name: &str) -> Result<(u64, PathBuf)> {
        let vm = self.vm(name)?;
        let pid = vm["pid"].as_u64().context("read the VM's pid")?;
        Ok((pid, vm["run_dir"].as_str().context("read the VM's run directory")?.into()))
    }

    /// Processor time that the VMs have used so far, all together.
    pub(super) fn cpu_of_all(&self) -> Result<Duration> {
        let seconds = self.vms()?.iter().filter_map(|vm| vm["cpu_seconds"].as_f64()).sum();
        Ok(Duration::from_secs_f64(seconds))
    }

    /// The daemon's resident memory, in MiB.
    pub(super) fn daemon_resident(&self) -> Result<u64> {
        Ok(self.daemon_kib()? / 1024)
    }

    /// The same in KiB.
    pub(super) fn daemon_kib(&self) -> Result<u64> {
        self.daemon_memory("VmRSS:")
    }

    /// The most that it ever was.
    pub(super) fn daemon_peak(&self) -> Result<u64> {
        Ok(self.daemon_memory("VmHWM:")? / 1024)
    }

    pub(super) fn daemon(&self) -> Result<u64> {
        let info: Value = serde_json::from_str(&self.ok(&["daemon", "--json"])?)?;
        info["pid"].as_u64().context("read the daemon's pid")
    }

    fn daemon_memory(&self, kind: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix(kind));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
        Ok(kib.context("read the daemon's memory")?.trim().parse()?)
    }

    /// Times of `count` echoes in one session, with a server of that name, which there is none of yet.
    pub(super) fn conversation(&self, name: &str, count: usize) -> Result<Vec<Duration>> {
        self.ok(&["mcp", "add", name])?;
        let mut run = self.command(&["mcp", "run", name]);
        let mut child = run.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut pipe = Pipe::open(&mut child)?;
        let times = (0..count).map(|_| timed(|| pipe.call())).collect();
        drop(pipe);
        child.wait()?;
        self.ok(&["mcp", "microvm", "stop", name])?;
        self.ok(&["mcp", "remove", name])?;
        times
    }

    /// What was measured: versions, the VMM, the day.
    pub(super) fn about(&self) -> Result<String> {
        Ok(stage::about(|args| self.ok(args), &[])?.join(", "))
    }

    pub(super) fn vm(&self, name: &str) -> Result<Value> {
        let vm = self.vms()?.into_iter().find(|vm| vm["name"] == name);
        vm.with_context(|| format!("find VM {name}"))
    }

    pub(super) fn vms(&self) -> Result<Vec<Value>> {
        let status = self.ok(&["mcp", "microvm", "status", "--json"])?;
        Ok(serde_json::from_str(&status)?)
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.network {
            None => Command::new(&self.program),
            Some(pid) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/proc/{pid}/ns/net")).arg("--").arg(&self.program);
                command
            }
        };
        // Its own, or no folder of /tmp could be lent.
        command.args(args).env("OSVM_HOME", self.home()).stderr(Stdio::piped());
        command.env("OSVM_RUNTIME_DIR", self.home().join("vms"));
        command
    }
}

/// Whether a VM of [`Osvm::vms`] is run by Firecracker, which has targets of its own.
pub(super) fn is_firecrackers(vm: &Value) -> bool {
    vm["vmm"].as_str().is_some_and(|vmm| vmm.starts_with("firecracker"))
}

impl Drop for Osvm {
    fn drop(&mut self) {
        for args in [&["mcp", "microvm", "stop", "--all"][..], &["daemon", "--stop"]] {
            let _ = self.command(args).output();
        }
    }
}
