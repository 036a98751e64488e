//! The emulated machine: how QEMU is told, and what is waited for.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::job::tag;
use super::programs;
use super::pulse::Pulse;
use super::streams::{Port, copy};

/// A processor with AMD-V, in its second generation. TCG has no MONITOR.
const PROCESSOR: &str = "EPYC-Milan,+svm,+npt,-monitor";
/// Mitigations would cost time and protect nothing here.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 reboot=t mitigations=off";

/// How a lab ended.
pub(super) enum End {
    /// With the command's exit status.
    Done(u8),
    /// The deadline came first.
    TooLate,
    /// Nothing was heard of it any more.
    Frozen,
}

pub(super) struct Machine<'a> {
    pub(super) memory: u32,
    pub(super) cpus: u32,
    pub(super) shares: &'a [PathBuf],
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a Path,
    /// For its sockets and logs.
    pub(super) folder: &'a Path,
}

impl Machine<'_> {
    /// Until the command has ended, or the lab must be.
    pub(super) fn run(&self, deadline: Duration) -> Result<End> {
        let pulse = Pulse::start();
        let stdout = Port::listen(self.folder, "stdout", copy(io::stdout()))?;
        let stderr = Port::listen(self.folder, "stderr", copy(io::stderr()))?;
        let status = Port::listen(self.folder, "status", copy(Vec::new()))?;
        let knocked = pulse.clone();
        let knocks = Port::listen(self.folder, "pulse", move |lab| knocked.knock(lab))?;
        let mut qemu = self.start()?;
        let cut = wait(&qemu, deadline, &pulse);
        // Fails only where it has ended already.
        let _ = qemu.kill();
        qemu.wait().context("wait for QEMU")?;
        stdout.finish()?;
        stderr.finish()?;
        knocks.finish()?;
        let status = status.finish()?;
        match cut? {
            Some(end) => Ok(end),
            None => self.status(&status).map(End::Done),
        }
    }

    fn start(&self) -> Result<Child> {
        let log = fs::File::create(self.log()).context("create a log for QEMU")?;
        let qemu = programs::find("qemu-system-x86_64", "qemu-system-x86")?;
        // By setpriv: nobody ends a lab whose xtask was killed.
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(qemu)
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("run setpriv\nhint: apt-get install util-linux")
    }

    fn arguments(&self) -> Vec<OsString> {
        let (memory, cpus) = (self.memory.to_string(), self.cpus.to_string());
        let mut all = Vec::new();
        let mut add = |words: &[&dyn AsRef<std::ffi::OsStr>]| {
            all.extend(words.iter().map(|word| word.as_ref().to_owned()));
        };
        add(&[&"-machine", &"q35", &"-accel", &"tcg,thread=multi", &"-cpu", &PROCESSOR]);
        add(&[&"-smp", &cpus, &"-m", &memory]);
        add(&[&"-nodefaults", &"-display", &"none", &"-no-reboot"]);
        add(&[&"-kernel", &self.kernel, &"-initrd", &self.initrd, &"-append", &COMMAND_LINE]);
        add(&[&"-serial", &file("file:", &self.console())]);
        add(&[&"-device", &"virtio-serial-pci"]);
        for name in ["stdout", "stderr", "status", "pulse"] {
            let socket = file(&format!("socket,id={name},path="), &self.folder.join(name));
            let port = format!("virtserialport,chardev={name},name={name}");
            add(&[&"-chardev", &socket, &"-device", &port]);
        }
        share(&mut add, "root", Path::new("/"), "readonly=on");
        for (index, path) in self.shares.iter().enumerate() {
            share(&mut add, &tag(index), path, "readonly=off");
        }
        all
    }

    /// What the lab says last, or why it never came to that.
    fn status(&self, said: &[u8]) -> Result<u8> {
        if let Ok(status) = String::from_utf8_lossy(said).trim().parse() {
            return Ok(status);
        }
        let log = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
        bail!(
            "the lab ended by itself\nQEMU: {}\nconsole: {}",
            last_lines(&log(self.log()), 5),
            last_lines(&log(self.console()), 20)
        )
    }

    fn console(&self) -> PathBuf {
        self.folder.join("console.log")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("qemu.log")
    }
}

type Add<'a> = dyn FnMut(&[&dyn AsRef<std::ffi::OsStr>]) + 'a;

fn share(add: &mut Add<'_>, tag: &str, path: &Path, access: &str) {
    let share = format!("local,id={tag},security_model=none,multidevs=remap,{access},path=");
    let device = format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}");
    add(&[&"-fsdev", &file(&share, path), &"-device", &device]);
}

/// An option that ends with a path, in which QEMU wants its commas doubled.
fn file(option: &str, path: &Path) -> String {
    format!("{option}{}", path.display().to_string().replace(',', ",,"))
}

/// Why it must be ended; `None` when it has ended by itself.
fn wait(child: &Child, within: Duration, pulse: &Pulse) -> Result<Option<End>> {
    const LOOK: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("QEMU's pid")?;
    let process = pidfd_open(pid, PidfdFlags::empty()).context("watch QEMU")?;
    let start = Instant::now();
    while poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&LOOK)).context("wait for QEMU")?
        == 0
    {
        if start.elapsed() > within {
            return Ok(Some(End::TooLate));
        }
        if pulse.is_lost() {
            return Ok(Some(End::Frozen));
        }
    }
    Ok(None)
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_comma_stays_one_option() {
        assert_eq!(file("file:", Path::new("/a,b")), "file:/a,,b");
    }

    #[test]
    fn only_the_last_lines_are_told() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
    }
}
