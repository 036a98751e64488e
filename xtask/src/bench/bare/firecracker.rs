//! A Firecracker is asked over its API what it was told, and another is given that in a file.

pub(super) mod echo;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use super::Machine;

/// What makes the guest what it is: no link, no console file, no balloon. A kernel without a source of entropy
/// would wait for some.
const KEPT: [&str; 4] = ["boot-source", "machine-config", "drives", "entropy"];

/// What Firecracker was told of the files that it has inherited.
const INHERITED: &str = "/proc/self/fd/";

pub(super) fn machine(program: PathBuf, pid: u64, run_dir: &Path) -> Result<Machine> {
    let kept = guest(pid, run_dir)?;
    let mut file = NamedTempFile::new().context("make a file for its configuration")?;
    serde_json::to_writer(&mut file, &kept)?;
    let arguments = vec!["--no-api".into(), "--config-file".into(), file.path().into()];
    Ok(Machine { program, arguments, _file: Some(file) })
}

/// What a running one was told of its guest.
fn guest(pid: u64, run_dir: &Path) -> Result<Map<String, Value>> {
    let told = ask(&run_dir.join("vmm/api.sock"));
    let mut kept = kept(&told.context("ask firecracker for its configuration")?);
    let path = |number: &str| std::fs::read_link(format!("/proc/{pid}/fd/{number}"));
    kept.values_mut().try_for_each(|value| name_files(value, &path))?;
    Ok(kept)
}

fn kept(told: &Map<String, Value>) -> Map<String, Value> {
    let kept = told.iter().filter(|(part, _)| KEPT.contains(&part.as_str()));
    kept.map(|(part, value)| (part.clone(), value.clone())).collect()
}

/// By their paths, which other processes know them by.
fn name_files(value: &mut Value, path: &impl Fn(&str) -> io::Result<PathBuf>) -> Result<()> {
    match value {
        Value::String(text) => {
            if let Some(number) = text.strip_prefix(INHERITED) {
                *text = path(number)?.to_string_lossy().into_owned();
            }
        }
        Value::Array(all) => all.iter_mut().try_for_each(|value| name_files(value, path))?,
        Value::Object(all) => all.values_mut().try_for_each(|value| name_files(value, path))?,
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

fn ask(socket: &Path) -> Result<Map<String, Value>> {
    let (_, body) = exchange(&mut UnixStream::connect(socket)?, "GET", "/vm/config", "")?;
    serde_json::from_slice(&body).context("read its answer")
}

/// Status and body of its answer to a request.
fn exchange(api: &mut UnixStream, method: &str, path: &str, body: &str) -> Result<(u32, Vec<u8>)> {
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    api.write_all((head + body).as_bytes())?;
    let mut answer = BufReader::new(api);
    let (mut line, mut length) = (String::new(), 0);
    answer.read_line(&mut line)?;
    let status = line.split(' ').nth(1).context("read its answer's status")?.parse()?;
    line.clear();
    while answer.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    answer.read_exact(&mut body)?;
    Ok((status, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inherited_files_are_named_by_their_paths() {
        let told =
            r#"{"boot-source": {"kernel": "/proc/self/fd/7", "args": "quiet"}, "drives": []}"#;
        let mut told = serde_json::from_str(told).unwrap();
        name_files(&mut told, &|number| Ok(PathBuf::from(format!("/files/{number}")))).unwrap();
        let expected = r#"{"boot-source": {"kernel": "/files/7", "args": "quiet"}, "drives": []}"#;
        assert_eq!(told, serde_json::from_str::<Value>(expected).unwrap());
    }

    #[test]
    fn only_the_guest_is_kept() {
        let told = r#"{"boot-source": {"a": 1}, "vsock": {"b": 2}, "drives": [], "logger": null}"#;
        let kept = kept(&serde_json::from_str(told).unwrap());
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["boot-source", "drives"]);
    }
}
