//! The same guest in a QEMU that nobody manages, with the folder lent by QEMU's own virtio-9p, and a serial port
//! behind which the host sends back what it gets.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::Work;
use super::scene::{CLIENT, LENT};
use crate::bench::bare::qemu;
use crate::bench::client;

/// The image's first program in this guest.
pub(super) const INIT: &str = "/bench/init";

/// Where the guest finds the serial port.
const PORT: &str = "/dev/vport*p1";

/// Stands before the times of one work, and at the end.
const MARK: &str = "== ";

/// The first program, which does all works and tells their times.
pub(super) fn init(works: &[Work], runs: usize) -> String {
    let mut script = format!(
        "#!/bin/sh\nexport PATH=/usr/bin HOME=/tmp\n\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs tmp /tmp\n\
         mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro lent {LENT}\n\
         echo '{MARK}echo'; {CLIENT} echo {PORT} {}\n\
         echo '{MARK}take'; {CLIENT} take {PORT} {runs}\n",
        runs * 40
    );
    for work in works {
        let client = quoted(&work.client(LENT, runs));
        script += &format!("echo '{MARK}{}'; {client}\n", work.name);
    }
    script + &format!("echo '{MARK}end'\nexec sleep 1000000\n")
}

/// What each work took, after what the serial port's echo and 64 MiB through it did.
pub(super) fn measure(vmm: u64, disk: &Path, lent: &Path) -> Result<Vec<Duration>> {
    let folder = tempfile::tempdir()?;
    let program = std::fs::read_link(format!("/proc/{vmm}/exe")).context("find QEMU")?;
    let mut guest = Command::new(program)
        .args(machine(vmm)?)
        .args(devices(&folder, disk, lent)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("run QEMU")?;
    let told = told(&mut guest);
    guest.kill()?;
    guest.wait()?;
    told
}

/// As osvm's, but that its root is the image.
fn machine(vmm: u64) -> Result<Vec<OsString>> {
    let given = qemu::arguments(vmm)?;
    let mut machine = Vec::new();
    for pair in given.chunks(2) {
        match pair {
            [flag, _] if flag == "-initrd" => {}
            [flag, text] if flag == "-append" => {
                let mut text = text.clone();
                text.push(format!(" root=/dev/vda ro rootwait init={INIT}"));
                machine.extend([flag.clone(), text]);
            }
            other => machine.extend(other.iter().cloned()),
        }
    }
    Ok(machine)
}

fn devices(folder: &TempDir, disk: &Path, lent: &Path) -> Result<Vec<String>> {
    let socket = folder.path().join("echo");
    let listener = UnixListener::bind(&socket).context("make a socket")?;
    std::thread::spawn(move || drop(send_back(&listener)));
    let (disk, lent, socket) = (disk.display(), lent.display(), socket.display());
    Ok([
        "-drive".into(),
        format!("file={disk},format=raw,if=none,id=disk,readonly=on"),
        "-device".into(),
        "virtio-blk-device,drive=disk".into(),
        "-fsdev".into(),
        format!("local,id=lent,path={lent},security_model=none,readonly=on"),
        "-device".into(),
        "virtio-9p-device,fsdev=lent,mount_tag=lent".into(),
        "-chardev".into(),
        format!("socket,id=echo,path={socket}"),
        "-device".into(),
        "virtio-serial-device".into(),
        "-device".into(),
        "virtserialport,chardev=echo,nr=1".into(),
    ]
    .to_vec())
}

fn send_back(listener: &UnixListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    let mut bytes = [0; 4096];
    loop {
        match stream.read(&mut bytes)? {
            1 => stream.write_all(&vec![0; 64 << 20])?,
            count => stream.write_all(&bytes[..count])?,
        }
    }
}

fn told(guest: &mut Child) -> Result<Vec<Duration>> {
    let console = guest.stdout.take().context("read the console")?;
    let mut parts: Vec<String> = Vec::new();
    let mut seen = String::new();
    for line in BufReader::new(console).lines() {
        let line = line.context("read the console")?;
        let line = line.trim();
        seen = seen + line + "\n";
        match (line.strip_prefix(MARK), parts.last_mut()) {
            (Some("end"), _) => {
                let told = parts.iter().map(|part| client::told(part)).collect::<Result<_>>();
                return told.with_context(|| format!("measure in a plain guest:\n{seen}"));
            }
            (Some(_), _) => parts.push(String::new()),
            (None, Some(part)) if line.parse::<u64>().is_ok() => *part += &format!("{line}\n"),
            _ => {}
        }
    }
    bail!("the plain guest ended before it was done:\n{seen}")
}

/// For a shell, which would look for files by `*`.
fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("'{word}' ")).collect()
}
