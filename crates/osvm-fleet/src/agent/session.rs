//! A session as its user sees it: stdin to write, stdout and stderr to read, an exit to wait for.
//!
//! What these hold and what the pump sends and receives meet in [`Shared`].

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use osvm_wire::message::{Attached, Exit, SessionId};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::dial::Follow;
use super::exchange::Exchange;
use super::pump;
use super::shared::{Handle, Shared, State, Which};

/// A server process in the guest and the bytes that go to it and come from it.
///
/// Dropping a session, or all of its parts, only detaches it: the process lives on in the guest and can be
/// attached again, until nobody has done so for ten minutes. [`Stdin`]'s shutdown ends the process's stdin,
/// [`Agent::close`](super::Agent::close) ends the process.
pub struct Session {
    id: SessionId,
    stdin: Stdin,
    stdout: Output,
    stderr: Output,
    exit: Exited,
}

/// A session that was taken over by its id.
pub struct Resumed {
    pub session: Session,
    /// How many bytes of stdin have reached the guest.
    pub stdin_received: u64,
    /// Whether the last of them was a newline (or there was none).
    pub stdin_at_line_start: bool,
}

/// The session can't go on: its process's fate is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("session was lost: {reason}")]
pub struct SessionLost {
    reason: String,
}

impl Session {
    pub(super) fn spawned(id: SessionId, exchange: Exchange, links: Follow) -> Self {
        Self::start(id, State::default(), exchange, links)
    }

    pub(super) fn attached(
        id: SessionId,
        at: &Attached,
        exchange: Exchange,
        links: Follow,
    ) -> Resumed {
        Resumed {
            session: Self::start(id, State::resumed(at), exchange, links),
            stdin_received: at.stdin_received,
            stdin_at_line_start: at.stdin_at_line_start,
        }
    }

    pub fn id(&self) -> SessionId {
        self.id
    }

    /// stdin, stdout, stderr, and the future of the exit. A dropped output is read and discarded.
    pub fn into_parts(self) -> (Stdin, Output, Output, Exited) {
        (self.stdin, self.stdout, self.stderr, self.exit)
    }

    fn start(id: SessionId, state: State, exchange: Exchange, links: Follow) -> Self {
        let shared = Arc::new(Shared::new(state));
        let handle = || Handle::new(&shared);
        let session = Self {
            id,
            stdin: Stdin { handle: handle() },
            stdout: Output { handle: handle(), which: Which::Stdout },
            stderr: Output { handle: handle(), which: Which::Stderr },
            exit: Exited { handle: handle() },
        };
        tokio::spawn(pump::run(id, shared, exchange, links));
        session
    }
}

impl SessionLost {
    pub(super) fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Writes to the process's stdin. A write waits while the guest has a full window of bytes that the process
/// has not taken. Shutdown ends the process's stdin; dropping it does not.
pub struct Stdin {
    handle: Handle,
}

impl AsyncWrite for Stdin {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.handle.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.handle.end_stdin();
        Poll::Ready(Ok(()))
    }
}

/// Reads the process's stdout or stderr. What is not read stops the process at a full window.
pub struct Output {
    handle: Handle,
    which: Which,
}

impl AsyncRead for Output {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.handle.poll_read(self.which, cx, buffer)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.handle.discard(self.which);
    }
}

/// Resolves when the process has ended, perhaps before its last output was read.
pub struct Exited {
    handle: Handle,
}

impl Future for Exited {
    type Output = Result<Exit, SessionLost>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.handle.poll_exit(cx)
    }
}
