//! A vsock stream's sending direction, which can't be closed on its own.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// Firecracker answers the end of what we send by ending both directions, and what the guest has
/// still to say is lost. So `shutdown` here only forbids further writing; the guest sees the end
/// when the stream is dropped. Whoever needs to mark an end earlier does so in what is sent.
pub(super) struct NoHalfClose {
    socket: UnixStream,
    is_shut: bool,
}

impl NoHalfClose {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket, is_shut: false }
    }
}

impl AsyncRead for NoHalfClose {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for NoHalfClose {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_shut {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_shut = true;
        self.poll_flush(cx)
    }
}
