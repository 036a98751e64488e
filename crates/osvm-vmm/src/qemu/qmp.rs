//! QEMU's control protocol, as much of it as is used: one JSON object a line, each command answered
//! by `return` or `error`, events in between.
//!
//! QEMU serves one client at a time, so a connection is made for a command and dropped after it.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;

/// Longest line taken. The greeting has some 100 bytes, events a few hundred.
const MAX_LINE: u64 = 64 * 1024;

/// A connection on which commands are taken.
#[derive(Debug)]
pub(super) struct Qmp {
    socket: BufReader<UnixStream>,
}

#[derive(Debug, Error)]
pub(super) enum QmpError {
    #[error("it closed its control socket")]
    Ended,
    #[error("{0}")]
    Refused(String),
    #[error("control socket: {0}")]
    Socket(io::Error),
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "return")]
    result: Option<Value>,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    desc: String,
}

impl Qmp {
    pub(super) async fn connect(path: &Path) -> Result<Self, QmpError> {
        Self::on(UnixStream::connect(path).await?).await
    }

    /// Waits for the greeting and has commands taken.
    async fn on(socket: UnixStream) -> Result<Self, QmpError> {
        let mut qmp = Self { socket: BufReader::new(socket) };
        qmp.line().await?;
        qmp.execute("qmp_capabilities").await?;
        Ok(qmp)
    }

    /// The machine's run state, such as `running` or `paused`.
    pub(super) async fn status(&mut self) -> Result<String, QmpError> {
        let reply = self.execute("query-status").await?;
        let status = reply.get("status").and_then(Value::as_str);
        Ok(status.unwrap_or("unknown").to_owned())
    }

    /// Runs a command that takes no arguments. Events that come before its answer are skipped.
    pub(super) async fn execute(&mut self, command: &str) -> Result<Value, QmpError> {
        self.execute_with(command, &json!({})).await
    }

    pub(super) async fn execute_with(
        &mut self,
        command: &str,
        arguments: &Value,
    ) -> Result<Value, QmpError> {
        self.socket.write_all(line(command, arguments).as_bytes()).await?;
        self.answer().await
    }

    /// Gives QEMU a descriptor, which it knows by this name from now on.
    pub(super) async fn lend(&mut self, name: &str, fd: BorrowedFd<'_>) -> Result<(), QmpError> {
        let line = line("getfd", &json!({ "fdname": name }));
        let socket = self.socket.get_ref();
        let send = || send(socket.as_fd(), line.as_bytes(), fd);
        let sent = socket.async_io(Interest::WRITABLE, send).await?;
        self.socket.write_all(&line.as_bytes()[sent..]).await?;
        self.answer().await.map(drop)
    }

    async fn answer(&mut self) -> Result<Value, QmpError> {
        loop {
            let line = self.line().await?;
            match (line.result, line.error) {
                (_, Some(refusal)) => return Err(QmpError::Refused(refusal.desc)),
                (Some(result), None) => return Ok(result),
                (None, None) => {}
            }
        }
    }

    async fn line(&mut self) -> Result<Line, QmpError> {
        let mut line = Vec::new();
        (&mut self.socket).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if !line.ends_with(b"\n") {
            return Err(QmpError::Ended);
        }
        serde_json::from_slice(&line).map_err(|error| QmpError::Socket(error.into()))
    }
}

fn line(command: &str, arguments: &Value) -> String {
    format!("{}\n", json!({ "execute": command, "arguments": arguments }))
}

/// A descriptor goes with the first byte, however many are taken.
fn send(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    let lent = [fd];
    with.push(SendAncillaryMessage::ScmRights(&lent));
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut with, SendFlags::NOSIGNAL)?)
}

/// Speaks to whatever is at the other end, for the fuzzing crate.
pub async fn fuzz(socket: UnixStream) -> Option<String> {
    Qmp::on(socket).await.ok()?.status().await.ok()
}

impl From<io::Error> for QmpError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::BrokenPipe => Self::Ended,
            _ => Self::Socket(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// Plays QEMU: sends `lines` to whoever connects, one after each line it gets and the first
    /// unasked.
    async fn played(lines: &[&'static str]) -> Result<Value, QmpError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let lines = lines.to_vec();
        tokio::spawn(async move {
            let (socket, _) = listener.accept().await.unwrap();
            let mut socket = BufReader::new(socket);
            for line in lines {
                socket.write_all(line.as_bytes()).await.unwrap();
                socket.read_line(&mut String::new()).await.unwrap();
            }
        });
        Qmp::connect(&path).await?.execute("stop").await
    }

    const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";
    const OK: &str = "{\"return\": {}}\r\n";

    #[tokio::test]
    async fn events_before_an_answer_are_skipped() {
        let answer = "{\"event\": \"STOP\", \"timestamp\": {}}\r\n{\"return\": {\"a\": 1}}\r\n";
        let said = played(&[GREETING, OK, answer]).await.unwrap();
        assert_eq!(said, json!({ "a": 1 }));
    }

    #[tokio::test]
    async fn an_error_is_told_in_its_words() {
        let error = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such thing\"}}\r\n";
        let refused = played(&[GREETING, OK, error]).await.unwrap_err();
        assert_eq!(refused.to_string(), "no such thing");
    }

    #[tokio::test]
    async fn an_end_in_the_middle_is_an_end() {
        assert!(matches!(played(&[]).await, Err(QmpError::Ended)));
        assert!(matches!(played(&[GREETING]).await, Err(QmpError::Ended)));
    }

    #[tokio::test]
    async fn what_is_no_json_is_an_error() {
        assert!(matches!(played(&["hello\r\n"]).await, Err(QmpError::Socket(_))));
    }
}
