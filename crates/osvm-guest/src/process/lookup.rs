//! Which file a command means, and in plain words why it can't be executed.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use osvm_wire::message::Refusal;

/// The search path of a process whose environment names none.
pub(super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Longest `#!` line that the kernel reads.
const SCRIPT_LINE: u64 = 256;

/// The file to execute for `command`: searched for on `path` if it has no slash, else as it stands.
pub(super) fn find(command: &str, path: &str, cwd: &Path) -> Result<PathBuf, Refusal> {
    if command.contains('/') {
        return Ok(cwd.join(command));
    }
    let candidates = || path.split(':').map(|folder| cwd.join(folder).join(command));
    let files = || candidates().filter(|file| file.is_file());
    let found = files().find(|file| is_executable(file)).or_else(|| files().next());
    found.ok_or_else(|| Refusal::CommandNotFound {
        command: command.to_owned(),
        searched: path.to_owned(),
    })
}

/// What an `execve` of `file` that failed with `error` means.
pub(super) fn explain(file: &Path, error: &io::Error) -> Refusal {
    let path = file.display().to_string();
    match error.kind() {
        ErrorKind::NotFound => explain_not_found(file, path),
        ErrorKind::PermissionDenied => explain_denied(file, path),
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            Refusal::NotExecutable { path, why: "it is no program for this machine".into() }
        }
        _ => Refusal::NotExecutable { path, why: error.to_string() },
    }
}

/// The kernel says "not found" for a missing file and for a missing interpreter alike.
fn explain_not_found(file: &Path, path: String) -> Refusal {
    if !file.exists() {
        return Refusal::FileNotFound { path };
    }
    match interpreter(file) {
        Some(interpreter) => Refusal::InterpreterNotFound { path, interpreter },
        None => Refusal::NotExecutable { path, why: "something that it needs is missing".into() },
    }
}

fn explain_denied(file: &Path, path: String) -> Refusal {
    let why = match fs::metadata(file) {
        Ok(metadata) if metadata.is_dir() => "it is a folder".to_owned(),
        Ok(metadata) if !is_executable(file) => {
            format!("its mode is {:04o}", metadata.permissions().mode() & 0o7777)
        }
        _ => "permission denied".to_owned(),
    };
    Refusal::NotExecutable { path, why }
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

/// The program that has to be there for `file` to run: of a script or of a dynamically linked executable.
fn interpreter(file: &Path) -> Option<String> {
    let mut head = Vec::new();
    File::open(file).ok()?.take(64 * 1024).read_to_end(&mut head).ok()?;
    match head.strip_prefix(b"#!") {
        Some(line) => script_interpreter(line),
        None => elf_interpreter(&head),
    }
}

fn script_interpreter(line: &[u8]) -> Option<String> {
    let line = &line[..line.len().min(SCRIPT_LINE as usize)];
    let text = line.split(|byte| *byte == b'\n').next()?;
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    // A carriage return before the line's end is part of the name that the kernel looks for.
    let trailing = if text.ends_with(b"\r") { "\\r" } else { "" };
    words.next().map(|word| String::from_utf8_lossy(word).into_owned() + trailing)
}

/// The `PT_INTERP` of a 64-bit little-endian executable (elf(5)).
fn elf_interpreter(head: &[u8]) -> Option<String> {
    const PT_INTERP: u64 = 3;
    head.strip_prefix(b"\x7fELF\x02\x01")?;
    let field = |at: usize, size: usize| {
        let bytes = head.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (table, entry, count) = (field(0x20, 8)?, field(0x36, 2)?, field(0x38, 2)?);
    let headers = (0..count).map(|index| table.saturating_add(index * entry) as usize);
    let header = headers.into_iter().find(|&at| field(at, 4) == Some(PT_INTERP))?;
    let (offset, size) =
        (field(header.checked_add(8)?, 8)? as usize, field(header.checked_add(32)?, 8)? as usize);
    let name = head.get(offset..offset.checked_add(size)?)?;
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    Some(String::from_utf8_lossy(name).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, content: &[u8], mode: u32) -> PathBuf {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_owned()
    }

    fn exec(file: &Path) -> io::Error {
        #[expect(
            clippy::disallowed_methods,
            reason = "the kernel's own answer is what is explained"
        )]
        std::process::Command::new(file).spawn().map(|_| ()).unwrap_err()
    }

    #[test]
    fn the_first_executable_on_the_path_wins() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("a/tool"), b"", 0o644);
        let wanted = write(&dir.path().join("b/tool"), b"", 0o755);
        write(&dir.path().join("c/tool"), b"", 0o755);
        assert_eq!(find("tool", "missing:a:b:c", dir.path()), Ok(wanted));
    }

    #[test]
    fn a_missing_command_is_reported_with_the_path_that_was_searched() {
        let refusal = find("cargo", "/nowhere:/else", Path::new("/")).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "command cargo was not found on the image's PATH /nowhere:/else"
        );
    }

    #[test]
    fn a_command_with_a_slash_is_relative_to_the_working_directory() {
        assert_eq!(find("./a/b", "/bin", Path::new("/work")), Ok("/work/./a/b".into()));
        assert_eq!(find("/a/b", "/bin", Path::new("/work")), Ok("/a/b".into()));
    }

    #[test]
    fn a_missing_file_and_a_missing_script_interpreter_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert!(matches!(explain(&missing, &exec(&missing)), Refusal::FileNotFound { .. }));
        let script = write(&dir.path().join("script"), b"#! /no/such/node --flag\n", 0o755);
        let refusal = explain(&script, &exec(&script));
        let expected = "/no/such/node";
        assert!(
            matches!(&refusal, Refusal::InterpreterNotFound { interpreter, .. } if interpreter == expected),
            "{refusal}"
        );
    }

    #[test]
    fn a_script_with_windows_line_ends_names_the_carriage_return() {
        assert_eq!(script_interpreter(b"/bin/sh\r\nexit\n"), Some("/bin/sh\\r".into()));
    }

    #[test]
    fn a_dynamic_executable_names_its_loader() {
        let own = std::env::current_exe().unwrap();
        let mut head = vec![0; 64 * 1024];
        File::open(own).unwrap().read_exact(&mut head).unwrap();
        let loader = elf_interpreter(&head).unwrap();
        assert!(Path::new(&loader).exists(), "{loader}");
    }

    #[test]
    fn a_cut_off_executable_names_no_loader_and_does_not_panic() {
        let mut head = b"\x7fELF\x02\x01".to_vec();
        head.resize(64, 0xFF);
        assert_eq!(elf_interpreter(&head), None);
        assert_eq!(elf_interpreter(b"\x7fELF\x02\x01"), None);
    }

    #[test]
    fn a_file_without_execute_bits_is_reported_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let plain = write(&dir.path().join("plain"), b"#!/bin/sh\n", 0o644);
        let denied = io::Error::from(ErrorKind::PermissionDenied);
        assert!(explain(&plain, &denied).to_string().ends_with("its mode is 0644"));
    }

    #[test]
    fn a_file_of_another_kind_is_no_program() {
        let dir = tempfile::tempdir().unwrap();
        let elf = write(&dir.path().join("elf"), b"\x7fELF\x02\x01garbage", 0o755);
        assert!(explain(&elf, &exec(&elf)).to_string().ends_with("no program for this machine"));
    }
}
