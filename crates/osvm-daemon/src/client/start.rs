//! Starts the daemon as a process of its own and waits until it listens.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use super::failed;
use crate::api::ApiError;
use crate::home::Home;
use crate::service::LISTENING;

/// Returns when a daemon of this home listens: the one started here, or one that was faster.
pub(super) async fn start(home: &Home, executable: &Path) -> Result<(), ApiError> {
    let (home, executable) = (home.clone(), executable.to_owned());
    let started = tokio::task::spawn_blocking(move || spawn_and_wait(&home, &executable));
    started.await.expect("starting the daemon does not panic")
}

fn spawn_and_wait(home: &Home, executable: &Path) -> Result<(), ApiError> {
    let log = open_log(home).map_err(|error| {
        let log = home.daemon_log();
        failed(format!("can't write {}: {error}", log.display()), "check OSVM_HOME")
    })?;
    let mut child = command(home, executable, log).spawn().map_err(|error| {
        failed(format!("can't start the daemon: {error}"), "osvm daemon --foreground")
    })?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let mut line = String::new();
    match BufReader::new(stdout).read_line(&mut line) {
        Ok(_) if line.trim_end() == LISTENING => Ok(()),
        _ => Err(failed(last_words(home), "osvm daemon --foreground")),
    }
}

#[expect(clippy::disallowed_methods, reason = "the daemon is osvm itself, started by osvm")]
fn command(home: &Home, executable: &Path, log: File) -> Command {
    let mut command = Command::new(executable);
    command
        .args(["daemon", "--foreground"])
        .env("OSVM_HOME", home.root())
        .env("OSVM_RUNTIME_DIR", home.runtime_dir())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    command
}

fn open_log(home: &Home) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(home.run())?;
    OpenOptions::new().create(true).append(true).mode(0o600).open(home.daemon_log())
}

fn last_words(home: &Home) -> String {
    let log = std::fs::read_to_string(home.daemon_log()).unwrap_or_default();
    match log.lines().rfind(|line| !line.trim().is_empty()) {
        Some(line) => format!("the daemon did not start: {line}"),
        None => "the daemon did not start".to_owned(),
    }
}
