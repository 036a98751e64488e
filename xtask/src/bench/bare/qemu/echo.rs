//! QEMU with a guest that echoes over a serial port: its memory is in a file, of which clones map a copy of their own.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::io::{FdFlags, fcntl_setfd};
use serde_json::{Value, json};

use crate::bench::bare::echo::{Machine, Process, Vmm, command_line};

/// How often QEMU is asked whether it is done.
const ASKED_EVERY: Duration = Duration::from_millis(1);
/// The port's name does not matter: it is the only one.
const PORT: &str = "virtserialport,chardev=link,name=echo";

/// What each of them is told.
pub(in crate::bench::bare) struct Told {
    program: PathBuf,
    arguments: Vec<OsString>,
    /// As QEMU is told it, such as `128M`.
    memory: String,
}

impl Told {
    pub(in crate::bench::bare) fn of(program: PathBuf, pid: u64, initramfs: &Path) -> Result<Self> {
        let mut arguments = super::guest(pid)?;
        let mut memory = String::new();
        for place in 0..arguments.len() - 1 {
            let value = arguments[place + 1].to_string_lossy().into_owned();
            let new = match &*arguments[place].to_string_lossy() {
                "-initrd" => initramfs.as_os_str().to_owned(),
                "-append" => command_line(&value, "serial").into(),
                "-machine" => format!("{value},memory-backend=mem0").into(),
                "-m" => {
                    memory.clone_from(&value);
                    continue;
                }
                _ => continue,
            };
            arguments[place + 1] = new;
        }
        Ok(Self { program, arguments, memory })
    }

    /// Its sockets are there before it is.
    fn start(&self, folder: &Path, memory: &str, incoming: bool) -> Result<Qemu> {
        let link = folder.join("link.sock");
        let control = folder.join("control.sock");
        let sockets = [listen(&link)?, listen(&control)?];
        let [link_fd, control_fd] = sockets.each_ref().map(AsRawFd::as_raw_fd);
        let size = &self.memory;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(super::ALONE).args(["-serial", "null"]);
        command.args(["-object", &format!("memory-backend-file,id=mem0,size={size},{memory}")]);
        let socket = |id, fd| format!("socket,id={id},server=on,wait=off,fd={fd}");
        command.args(["-chardev", &socket("control", control_fd)]);
        command.args(["-mon", "chardev=control,mode=control"]);
        command.args(["-chardev", &socket("link", link_fd), "-device", "virtio-serial-device"]);
        command.args(["-device", PORT, "-device", "virtio-rng-device"]);
        command.args(["-incoming", "defer"].iter().filter(|_| incoming));
        let process = Process::start(&mut command)?;
        drop(sockets);
        Ok(Qemu { control: Control::open(&control)?, link, _process: process })
    }
}

impl Vmm for Told {
    type Machine = Qemu;

    fn boot(&self, folder: &Path) -> Result<Qemu> {
        self.start(folder, &format!("share=on,mem-path={}", folder.join("memory").display()), false)
    }

    fn restore(&self, folder: &Path, saved: &Path) -> Result<Qemu> {
        let memory = format!("share=off,mem-path={}", saved.join("memory").display());
        let state = lasting(File::open(saved.join("state"))?)?;
        let mut qemu = self.start(folder, &memory, true)?;
        qemu.control.move_state("migrate-incoming", &format!("fd:{}", state.as_raw_fd()))?;
        qemu.control.execute("cont", &Value::Null)?;
        Ok(qemu)
    }
}

pub(in crate::bench::bare) struct Qemu {
    control: Control,
    link: PathBuf,
    _process: Process,
}

impl Machine for Qemu {
    type Stream = UnixStream;

    fn connect(&mut self) -> Result<UnixStream> {
        Ok(UnixStream::connect(&self.link)?)
    }

    fn save(&mut self, folder: &Path) -> Result<()> {
        let state = folder.join("state");
        self.control.execute("stop", &Value::Null)?;
        self.control.move_state("migrate", &format!("exec:cat >'{}'", state.display()))
    }
}

/// QEMU's machine protocol.
struct Control(BufReader<UnixStream>);

impl Control {
    fn open(socket: &Path) -> Result<Self> {
        let mut control = Self(BufReader::new(UnixStream::connect(socket)?));
        control.hear()?;
        control.execute("qmp_capabilities", &Value::Null)?;
        Ok(control)
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments.clone();
        }
        writeln!(self.0.get_mut(), "{request}")?;
        loop {
            let mut said = self.hear()?;
            if said.get("event").is_none() {
                let answer = said["return"].take();
                return if answer.is_null() { bail!("{command}: {said}") } else { Ok(answer) };
            }
        }
    }

    fn hear(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("QEMU says {line:?}"))
    }

    /// That of all but the memory, which stays where it is.
    fn move_state(&mut self, command: &str, to: &str) -> Result<()> {
        let stays = json!([{ "capability": "x-ignore-shared", "state": true }]);
        self.execute("migrate-set-capabilities", &json!({ "capabilities": stays }))?;
        self.execute(command, &json!({ "uri": to }))?;
        loop {
            let progress = self.execute("query-migrate", &Value::Null)?;
            match progress["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => bail!("{command}: {progress}"),
                _ => thread::sleep(ASKED_EVERY),
            }
        }
    }
}

fn listen(path: &Path) -> Result<OwnedFd> {
    let _ = fs::remove_file(path);
    lasting(UnixListener::bind(path)?)
}

/// One that whoever is started next inherits.
fn lasting(file: impl Into<OwnedFd>) -> Result<OwnedFd> {
    let file = file.into();
    fcntl_setfd(file.as_fd(), FdFlags::empty())?;
    Ok(file)
}
