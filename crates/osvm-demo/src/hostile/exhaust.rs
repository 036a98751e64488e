//! Uses up what the VM has, to see what of the host goes with it.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::{Value, json};

use super::accomplice::start;
use super::outcome;

pub(super) const MIB: usize = 1 << 20;

/// Where a guest can write: memory of its own, by several names.
const FOLDERS: [&str; 3] = ["/tmp", "/dev/shm", "/"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Exhaust {
    what: String,
    /// How long, for what would not end by itself.
    #[serde(default = "some_time")]
    seconds: u64,
    /// How many processes do it.
    #[serde(default = "one")]
    count: usize,
}

fn some_time() -> u64 {
    5
}

fn one() -> usize {
    1
}

/// How far it went and what stopped it.
pub(super) fn exhaust(Exhaust { what, seconds, count }: Exhaust) -> Value {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    match what.as_str() {
        "disk" => {
            json!({ "folders": FOLDERS.map(|folder| fill(Path::new(folder))) })
        }
        "translations" => outcome(translations(Path::new("/tmp/blocks"), deadline)),
        work => {
            let children: Vec<_> = (0..count).map(|_| start(work, Stdio::piped())).collect();
            let watched = children
                .into_iter()
                .map(|child| outcome(child.and_then(|child| watch(child, deadline))));
            json!({ "processes": watched.collect::<Vec<_>>() })
        }
    }
}

/// Counts a process's marks until it ends or its time is over.
fn watch(mut child: Child, deadline: Instant) -> io::Result<Value> {
    let output = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        // What was said before the pipe broke counts.
        let _ = output.map(|mut output| output.read_to_end(&mut said));
        said
    });
    let status = wait_until(&mut child, deadline)?;
    let said = reader.join().unwrap_or_default();
    let marks = said.iter().filter(|byte| **byte == b'+').count();
    let words = String::from_utf8_lossy(&said).replace('+', "");
    let reason = words.split(';').next().unwrap_or_default();
    Ok(json!({ "count": marks, "ended": ended(status), "said": reason }))
}

/// With everybody in its group.
fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    const LOOK: Duration = Duration::from_millis(20);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(LOOK);
    }
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process_group(group, Signal::KILL)?;
    }
    child.wait()?;
    Ok(None)
}

fn ended(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.code(), status.signal())) {
        None => "when its time was over".to_owned(),
        Some((Some(code), _)) => format!("with status {code}"),
        Some((None, signal)) => format!("by signal {}", signal.unwrap_or_default()),
    }
}

/// Writes until nothing more is taken, then gives it back.
fn fill(folder: &Path) -> Value {
    let path = folder.join("filling");
    let mut written = 0;
    let error = match File::create(&path) {
        Ok(file) => write_without_end(file, &mut written),
        Err(error) => error,
    };
    let _ = fs::remove_file(&path);
    json!({ "folder": folder, "mib": written, "error": error.to_string() })
}

fn write_without_end(mut file: File, mib: &mut u64) -> io::Error {
    let block = vec![0xa5; MIB];
    loop {
        match file.write_all(&block) {
            Ok(()) => *mib += 1,
            Err(error) => return error,
        }
    }
}

/// Runs a program of a great many tiny blocks of code. A VMM that emulates keeps a translation of each, some
/// hundred times its size.
fn translations(path: &Path, deadline: Instant) -> io::Result<Value> {
    const BLOCKS: usize = 1 << 20;
    fs::write(path, program(BLOCKS)?)?;
    fs::set_permissions(path, Permissions::from_mode(0o755))?;
    #[expect(clippy::disallowed_methods, reason = "running it is the attempt")]
    let child = std::process::Command::new(path).process_group(0).spawn();
    let status = child.and_then(|mut child| wait_until(&mut child, deadline));
    let _ = fs::remove_file(path);
    Ok(json!({ "blocks": BLOCKS, "ended": ended(status?) }))
}

/// An ELF file for x86-64: that many jumps to the next instruction, then exit(0).
fn program(blocks: usize) -> io::Result<Vec<u8>> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: usize = 64 + 56;
    const JUMP: [u8; 2] = [0xeb, 0x00];
    // mov eax, 60; xor edi, edi; syscall
    const EXIT: [u8; 9] = [0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05];
    if !cfg!(target_arch = "x86_64") {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "known for x86-64 only"));
    }
    let size = (HEADERS + blocks * JUMP.len() + EXIT.len()) as u64;
    let mut file = Vec::new();
    // Ident; executable; x86-64; version; entry; program headers; no sections; flags; sizes and counts.
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    [2u16, 62].iter().for_each(|half| file.extend(half.to_le_bytes()));
    file.extend(1u32.to_le_bytes());
    [BASE + HEADERS as u64, 64, 0].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(0u32.to_le_bytes());
    [64u16, 56, 1, 0, 0, 0].iter().for_each(|half| file.extend(half.to_le_bytes()));
    // One segment: loaded, readable and executable, all of the file.
    [1u32, 5].iter().for_each(|half| file.extend(half.to_le_bytes()));
    [0, BASE, BASE, size, size, 4096].iter().for_each(|word| file.extend(word.to_le_bytes()));
    file.extend(JUMP.iter().cycle().take(blocks * JUMP.len()));
    file.extend(EXIT);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_program_of_many_blocks_runs_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let ran = translations(&folder.path().join("blocks"), deadline).unwrap();
        assert_eq!(ran["ended"], "with status 0");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test's own process")]
    fn a_process_whose_time_is_over_is_killed_and_said_so() {
        let child = std::process::Command::new("sleep").arg("1000").process_group(0).spawn();
        let over = wait_until(&mut child.unwrap(), Instant::now()).unwrap();
        assert_eq!(ended(over), "when its time was over");
    }
}
