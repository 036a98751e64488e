//! Starts the daemon as a process of its own and waits until it listens.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::failed;
use crate::api::ApiError;
use crate::home::Home;
use crate::service::LISTENING;

/// How a daemon is started where none runs.
#[derive(Debug, Clone)]
pub struct Starter {
    /// The osvm command, which becomes the daemon when called as `osvm daemon --foreground`.
    pub executable: PathBuf,
    /// All of the daemon's environment but where its home is. It outlives whoever starts it, so nothing of
    /// theirs alone, as a token, should be in it.
    pub environment: Vec<(OsString, OsString)>,
}

/// Returns when a daemon of this home listens: the one started here, or one that was faster.
pub(super) async fn start(home: &Home, starter: &Starter) -> Result<(), ApiError> {
    let (home, starter) = (home.clone(), starter.clone());
    let started = tokio::task::spawn_blocking(move || spawn_and_wait(&home, &starter));
    started.await.expect("starting the daemon does not panic")
}

fn spawn_and_wait(home: &Home, starter: &Starter) -> Result<(), ApiError> {
    let log = open_log(home).map_err(|error| {
        let log = home.daemon_log();
        failed(format!("can't write {}: {error}", log.display()), "check OSVM_HOME")
    })?;
    let mut child = command(home, starter, log).spawn().map_err(|error| {
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
fn command(home: &Home, starter: &Starter, log: File) -> Command {
    let mut command = Command::new(&starter.executable);
    command
        .args(["daemon", "--foreground"])
        .env_clear()
        .envs(starter.environment.iter().cloned())
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
