//! Firecracker with a guest that echoes over vsock: a full snapshot, whose memory clones map for themselves.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::bench::bare::echo::{Machine, Process, Vmm, command_line};

/// In each one's folder, in which it works: a snapshot remembers its vsock's name.
const API: &str = "api.sock";
const VSOCK: &str = "v.sock";
/// Where the guest listens.
const PORT: u32 = 5252;

/// What the first of them is told.
pub(in crate::bench::bare) struct Told {
    program: PathBuf,
    configuration: Map<String, Value>,
}

impl Told {
    pub(in crate::bench::bare) fn of(
        program: PathBuf,
        pid: u64,
        run_dir: &Path,
        initramfs: &Path,
    ) -> Result<Self> {
        let mut told = super::guest(pid, run_dir)?;
        let boot = told.get_mut("boot-source").context("read what it boots")?;
        let line = boot["boot_args"].as_str().context("read the kernel's command line")?;
        boot["boot_args"] = command_line(line, "vsock").into();
        boot["initrd_path"] = initramfs.display().to_string().into();
        told.insert("drives".to_owned(), json!([]));
        told.insert("vsock".to_owned(), json!({ "guest_cid": 3, "uds_path": VSOCK }));
        Ok(Self { program, configuration: told })
    }

    fn start(&self, folder: &Path, arguments: &[&str]) -> Result<Firecracker> {
        let mut command = Command::new(&self.program);
        command.args(["--api-sock", API]).args(arguments).current_dir(folder);
        let mut process = Process::start(&mut command)?;
        let api = process.once(|| UnixStream::connect(folder.join(API)))?;
        Ok(Firecracker { process, api, vsock: folder.join(VSOCK) })
    }
}

impl Vmm for Told {
    type Machine = Firecracker;

    fn boot(&self, folder: &Path) -> Result<Firecracker> {
        let file = folder.join("configuration");
        fs::write(&file, serde_json::to_string(&self.configuration)?)?;
        self.start(folder, &["--config-file", &file.display().to_string()])
    }

    fn restore(&self, folder: &Path, saved: &Path) -> Result<Firecracker> {
        let mut clone = self.start(folder, &[])?;
        let body = json!({
            "snapshot_path": saved.join("state"),
            "mem_backend": { "backend_path": saved.join("memory"), "backend_type": "File" },
            "resume_vm": true,
        });
        clone.ask("PUT", "/snapshot/load", &body)?;
        Ok(clone)
    }
}

pub(in crate::bench::bare) struct Firecracker {
    process: Process,
    api: UnixStream,
    vsock: PathBuf,
}

impl Firecracker {
    fn ask(&mut self, method: &str, path: &str, body: &Value) -> Result<()> {
        let (status, said) = super::exchange(&mut self.api, method, path, &body.to_string())?;
        ensure!(status / 100 == 2, "{path}: {}", String::from_utf8_lossy(&said));
        Ok(())
    }
}

impl Machine for Firecracker {
    type Stream = UnixStream;

    /// Firecracker hangs up as long as nobody in the guest listens.
    fn connect(&mut self) -> Result<UnixStream> {
        let vsock = &self.vsock;
        self.process.once(|| {
            let mut stream = UnixStream::connect(vsock)?;
            writeln!(stream, "CONNECT {PORT}")?;
            let mut answer = String::new();
            // The guest says nothing unasked, so nothing else is read along with the line.
            BufReader::new(&stream).read_line(&mut answer)?;
            if answer.starts_with("OK ") {
                Ok(stream)
            } else {
                Err(io::ErrorKind::NotConnected.into())
            }
        })
    }

    fn save(&mut self, folder: &Path) -> Result<()> {
        self.ask("PATCH", "/vm", &json!({ "state": "Paused" }))?;
        let body = json!({
            "snapshot_type": "Full",
            "snapshot_path": folder.join("state"),
            "mem_file_path": folder.join("memory"),
        });
        self.ask("PUT", "/snapshot/create", &body)
    }
}
