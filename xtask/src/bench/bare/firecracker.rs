//! A Firecracker is asked over its API what it was told, and another is given that in a file.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use super::Machine;

/// What makes the guest what it is: no link, no console file, no other devices.
const KEPT: [&str; 3] = ["boot-source", "machine-config", "drives"];

pub(super) fn machine(program: PathBuf, run_dir: &Path) -> Result<Machine> {
    let told = ask(&run_dir.join("api.sock")).context("ask firecracker for its configuration")?;
    let mut file = NamedTempFile::new().context("make a file for its configuration")?;
    serde_json::to_writer(&mut file, &kept(&told))?;
    let arguments = vec!["--no-api".into(), "--config-file".into(), file.path().into()];
    Ok(Machine { program, arguments, _file: Some(file) })
}

fn kept(told: &Map<String, Value>) -> Map<String, Value> {
    let kept = told.iter().filter(|(part, _)| KEPT.contains(&part.as_str()));
    kept.map(|(part, value)| (part.clone(), value.clone())).collect()
}

fn ask(socket: &Path) -> Result<Map<String, Value>> {
    let mut socket = UnixStream::connect(socket)?;
    socket.write_all(b"GET /vm/config HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = BufReader::new(socket);
    let (mut line, mut length) = (String::new(), 0);
    while answer.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body)?;
    serde_json::from_slice(&body).context("read its answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_guest_is_kept() {
        let told = r#"{"boot-source": {"a": 1}, "vsock": {"b": 2}, "drives": [], "logger": null}"#;
        let kept = kept(&serde_json::from_str(told).unwrap());
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["boot-source", "drives"]);
    }
}
