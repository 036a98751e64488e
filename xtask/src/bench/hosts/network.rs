//! A network namespace with nothing in it but a loopback interface and one address, for as long as it is held.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::getuid;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Until its standard input ends.
const SCRIPT: &str =
    "ip link set lo up && ip address add 203.0.113.7/32 dev lo && echo ready && cat >/dev/null";

pub(super) struct Network {
    holder: Child,
}

impl Network {
    pub(super) fn new() -> Result<Self> {
        ensure!(getuid().is_root(), "make a network of the benchmark's own: only root can");
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "sh", "-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = unshare.spawn().context("run unshare")?;
        let mut line = String::new();
        let stdout = holder.stdout.take().context("read what unshare says")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let network = Self { holder };
        ensure!(line == "ready\n", "make a network of the benchmark's own, with unshare and ip");
        Ok(network)
    }

    /// The process whose network it is.
    pub(super) fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A program in it.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.pid())).arg("--").arg(program);
        command
    }

    /// Does that in it, in a thread of its own. What is opened there stays there.
    pub(super) fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let space = File::open(format!("/proc/{}/ns/net", self.pid()))?;
        let inside = || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
            work()
        };
        match thread::scope(|scope| scope.spawn(inside).join()) {
            Ok(done) => done,
            Err(_) => bail!("work in the network"),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
