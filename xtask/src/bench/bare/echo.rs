//! The floor of clones: a guest that does nothing but echo, saved and cloned by a VMM that nobody manages. Same kernel, memory,
//! processor and way of the bytes as osvm's; no jail, no daemon, nobody who asks for more than the first echo.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use osvm_image::cpio::Writer;
use tempfile::TempDir;

use super::{firecracker, qemu};
use crate::bench::client;

/// How long anything of it may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a guest may take to notice that nobody is connected any more.
const HANGS_UP: Duration = Duration::from_millis(100);
const SOON: Duration = Duration::from_micros(500);

/// A VMM's part of it.
pub(super) trait Vmm {
    type Machine: Machine;

    /// One that boots, with its files in that folder.
    fn boot(&self, folder: &Path) -> Result<Self::Machine>;
    /// One that goes on where a booted one was saved.
    fn restore(&self, folder: &Path, saved: &Path) -> Result<Self::Machine>;
}

pub(super) trait Machine {
    type Stream: Read + Write;

    /// A stream to the guest's echo, as soon as there is one.
    fn connect(&mut self) -> Result<Self::Stream>;
    fn save(&mut self, folder: &Path) -> Result<()>;
}

pub(in crate::bench) struct Echo(Box<dyn Fn() -> Result<Duration>>);

impl Echo {
    /// With a guest as that of a running VMM, by its process and its run directory.
    pub(in crate::bench) fn of(pid: u64, run_dir: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-echo-").tempdir()?;
        let initramfs = initramfs(folder.path())?;
        let program =
            fs::read_link(format!("/proc/{pid}/exe")).context("find the VMM's program")?;
        if program.ends_with("firecracker") {
            let told = firecracker::echo::Told::of(program, pid, run_dir, &initramfs)?;
            return Self::saved(told, folder);
        }
        Self::saved(qemu::echo::Told::of(program, pid, &initramfs)?, folder)
    }

    fn saved(vmm: impl Vmm + 'static, folder: TempDir) -> Result<Self> {
        let saved = folder.path().to_owned();
        {
            let mut machine = vmm.boot(&saved)?;
            first_echo(&mut machine).context("boot a bare guest")?;
            thread::sleep(HANGS_UP);
            machine.save(&saved).context("save a bare guest")?;
        }
        Ok(Self(Box::new(move || {
            let own = TempDir::new_in(folder.path())?;
            let start = Instant::now();
            let mut clone = vmm.restore(own.path(), &saved)?;
            first_echo(&mut clone).context("clone a bare guest")?;
            Ok(start.elapsed())
        })))
    }

    /// From the start of the process to the first echo.
    pub(in crate::bench) fn clone(&self) -> Result<Duration> {
        (self.0)()
    }
}

fn first_echo(machine: &mut impl Machine) -> Result<()> {
    let mut stream = machine.connect()?;
    stream.write_all(b"e")?;
    let mut echo = [0];
    stream.read_exact(&mut echo)?;
    ensure!(&echo == b"e", "the guest's echo was {echo:?}");
    Ok(())
}

/// With the program that echoes, and nothing else.
fn initramfs(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("init");
    client::compile("xtask/src/bench/bare/guest.rs", &program)?;
    let mut archive = Vec::new();
    let mut writer = Writer::new(&mut archive);
    writer.folder("/dev", 0o755)?;
    writer.file("/init", 0o755, &fs::read(&program)?)?;
    writer.finish()?;
    let path = folder.join("initramfs");
    fs::write(&path, archive)?;
    Ok(path)
}

/// A kernel's command line, for that program and this way of its bytes.
pub(super) fn command_line(of_osvm: &str, way: &str) -> String {
    let kept = of_osvm
        .split(' ')
        .filter(|word| !word.starts_with("rdinit=") && !word.starts_with("osvm."));
    let own = ["rdinit=/init".to_owned(), format!("echo={way}")];
    kept.map(str::to_owned).chain(own).collect::<Vec<_>>().join(" ")
}

/// A VMM's process, ended when this is dropped.
pub(super) struct Process(Child);

impl Process {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Ok(Self(child.with_context(|| format!("run {}", command.get_program().display()))?))
    }

    /// What is tried until it works.
    pub(super) fn once<T>(&mut self, mut attempt: impl FnMut() -> io::Result<T>) -> Result<T> {
        let begin = Instant::now();
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(error) if begin.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => {}
            }
            if let Some(status) = self.0.try_wait()? {
                bail!("the VMM ended with {status}");
            }
            thread::sleep(SOON);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_told_of_another_program_and_nothing_else() {
        let line = command_line("quiet rdinit=/.osvm/agent osvm.root=disk reboot=t", "serial");
        assert_eq!(line, "quiet reboot=t rdinit=/init echo=serial");
    }
}
