//! Programs that keep passwords for Docker: `docker-credential-NAME get` reads the registry's name and writes what it
//! knows as JSON (<https://github.com/docker/docker-credential-helpers>). Its complaints go where this process's go.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Deserialize;
use thiserror::Error;

use super::credentials::Credentials;

/// Why a helper gave nothing. What it knows is in none of the messages.
#[derive(Debug, Error)]
pub enum HelperError {
    #[error("that is no name of a program")]
    Name,
    #[error("no such program is on PATH")]
    Missing,
    #[error("it can't be run")]
    Run(#[source] io::Error),
    #[error("it has not answered in {} seconds", .0.as_secs())]
    Silent(Duration),
    #[error("it says more than {MAX_ANSWER} bytes")]
    Long,
    #[error("it ends with {status}{}", remark(said))]
    Failed { status: ExitStatus, said: String },
    #[error("its answer is no user and secret")]
    Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Known {
    username: String,
    secret: String,
}

/// Somebody may have to unlock a keyring.
const PATIENCE: Duration = Duration::from_secs(120);
const MAX_ANSWER: u64 = 64 << 10;
/// Of what a helper says when it fails, in characters.
const MAX_REMARK: usize = 200;
/// What every helper says of a registry that it does not know, and then fails.
const UNKNOWN: &str = "credentials not found in native keychain";
/// In place of a user: the secret is a token to get others with.
const TOKEN: &str = "<token>";

/// The file name of a helper.
pub(super) fn program(name: &str) -> String {
    format!("docker-credential-{name}")
}

/// What the helper of that name knows of a registry. It is looked for in the folders of `path`.
pub(super) fn ask(
    name: &str,
    registry: &str,
    path: &OsStr,
) -> Result<Option<Credentials>, HelperError> {
    let program = find(name, path)?;
    let (status, answer) = run(&program, registry, PATIENCE)?;
    if answer.len() as u64 > MAX_ANSWER {
        return Err(HelperError::Long);
    }
    if status.success() {
        return known(&answer);
    }
    let said = String::from_utf8_lossy(&answer).trim().to_owned();
    if said == UNKNOWN { Ok(None) } else { Err(HelperError::Failed { status, said }) }
}

fn known(answer: &[u8]) -> Result<Option<Credentials>, HelperError> {
    // The library's own error would quote the answer.
    let Known { username, secret } =
        serde_json::from_slice(answer).map_err(|_| HelperError::Answer)?;
    Ok(match username.as_str() {
        TOKEN => Some(Credentials::Token(secret)),
        "" => None,
        _ => Some(Credentials::Password { user: username, password: secret }),
    })
}

fn find(name: &str, path: &OsStr) -> Result<PathBuf, HelperError> {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(HelperError::Name);
    }
    let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
    let mut programs = folders.map(|folder| folder.join(program(name)));
    programs.find(|program| is_executable(program)).ok_or(HelperError::Missing)
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|stat| stat.is_file() && stat.permissions().mode() & 0o111 != 0)
}

#[expect(clippy::disallowed_methods, reason = "the user's own helper is asked for passwords")]
fn run(
    program: &Path,
    registry: &str,
    patience: Duration,
) -> Result<(ExitStatus, Vec<u8>), HelperError> {
    let mut command = Command::new(program);
    command.arg("get").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(HelperError::Run)?;
    let handle = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let handle = handle.map_err(|error| HelperError::Run(error.into()))?;
    let input = child.stdin.take();
    let (tell, told) = mpsc::channel();
    let registry = registry.to_owned();
    thread::spawn(move || {
        // Who does not read it may know all the same.
        let _ = input.map(|mut input| input.write_all(registry.as_bytes()));
        let _ = tell.send(listen(child));
    });
    let ended = told.recv_timeout(patience).map_err(|_| {
        // It may have ended just now.
        let _ = pidfd_send_signal(&handle, Signal::KILL);
        HelperError::Silent(patience)
    })?;
    ended.map_err(HelperError::Run)
}

/// What it says until it ends, or says too much.
fn listen(mut child: Child) -> io::Result<(ExitStatus, Vec<u8>)> {
    let mut said = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(MAX_ANSWER + 1).read_to_end(&mut said)?;
    }
    Ok((child.wait()?, said))
}

/// One line, if it looks like words.
fn remark(said: &str) -> String {
    let line = said.lines().next().unwrap_or_default();
    let is_words = !line.is_empty() && !line.contains(['{', '"']);
    let cut = line.chars().filter(|character| !character.is_control()).take(MAX_REMARK);
    if is_words { format!(": {}", cut.collect::<String>()) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks a script for `x.y`.
    fn asked(script: &str) -> Result<Option<Credentials>, HelperError> {
        let folder = folder(script);
        ask("test", "x.y", folder.path().as_os_str())
    }

    fn folder(script: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker-credential-test");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    fn refused(script: &str) -> String {
        asked(script).err().expect("it is refused").to_string()
    }

    #[test]
    fn a_user_a_token_or_nothing_is_known() {
        let script = r#"[ "$1" = get ] && [ "$(cat)" = x.y ] || exit 9
            echo '{"ServerURL":"x.y","Username":"u","Secret":"s\"t"}'"#;
        let Ok(Some(Credentials::Password { user, password })) = asked(script) else { panic!() };
        assert_eq!((user.as_str(), password.as_str()), ("u", "s\"t"));
        let token = asked(r#"echo '{"Username":"<token>","Secret":"t"}'"#);
        assert!(matches!(token, Ok(Some(Credentials::Token(token))) if token == "t"));
        let unknown = asked("echo credentials not found in native keychain; exit 1");
        assert!(matches!(unknown, Ok(None)));
    }

    #[test]
    fn a_failure_is_told_without_what_may_be_a_secret() {
        assert!(
            refused("echo 'the keyring is locked'; exit 2").ends_with(": the keyring is locked")
        );
        for script in [
            r#"echo '{"Username":"u","Secret":"hush"'; exit 0"#,
            r#"echo '{"Username":"u","Secret":"hush"}'; exit 1"#,
            r#"echo '{"Username":"u"} hush'"#,
        ] {
            assert!(!refused(script).contains("hush"), "{script}");
        }
    }

    #[test]
    fn what_is_said_and_waited_for_is_bounded() {
        assert!(matches!(asked("yes"), Err(HelperError::Long)));
        let folder = folder("exec sleep 1000");
        let program = find("test", folder.path().as_os_str()).unwrap();
        let silent = run(&program, "x.y", Duration::from_millis(50));
        assert!(matches!(silent, Err(HelperError::Silent(_))));
    }

    #[test]
    fn a_helper_is_a_program_on_the_path_and_nothing_else() {
        let folder = folder("exit 1");
        let path = folder.path().as_os_str();
        assert!(find("test", path).is_ok());
        for name in ["", "../test", "a/b", "a b", "test\0"] {
            assert!(matches!(find(name, path), Err(HelperError::Name)), "{name:?}");
        }
        assert!(matches!(find("other", path), Err(HelperError::Missing)));
        assert!(matches!(find("test", OsStr::new("")), Err(HelperError::Missing)));
        let program = folder.path().join("docker-credential-test");
        fs::set_permissions(program, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(find("test", path), Err(HelperError::Missing)));
    }
}
