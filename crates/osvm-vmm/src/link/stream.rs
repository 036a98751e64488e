//! One stream of a link.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Bytes in both directions. `shutdown` closes only the sending direction; dropping closes both.
///
/// Over Firecracker's vsock, which has no half-close, the other end sees a `shutdown` only when the
/// stream is dropped: a protocol for streams marks its own end.
pub struct Stream {
    io: Pin<Box<dyn Io>>,
    link: CancellationToken,
    /// One for each direction: the halves of a split stream are polled by different tasks, and a
    /// future remembers only the last one.
    read_aborted: Pin<Box<WaitForCancellationFutureOwned>>,
    write_aborted: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Counts against the link's limit for as long as the stream lives.
    _place: Option<OwnedSemaphorePermit>,
}

pub(crate) trait Io: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

impl Stream {
    /// A stream that ends with `link`.
    pub(crate) fn new(io: impl Io + 'static, link: &CancellationToken) -> Self {
        Self {
            io: Box::pin(io),
            link: link.clone(),
            read_aborted: Box::pin(link.clone().cancelled_owned()),
            write_aborted: Box::pin(link.clone().cancelled_owned()),
            _place: None,
        }
    }

    pub(crate) fn in_place(self, place: OwnedSemaphorePermit) -> Self {
        Self { _place: Some(place), ..self }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

/// Fails once the link is closed, and wakes the task when that happens.
fn check(
    closed: &mut Pin<Box<WaitForCancellationFutureOwned>>,
    cx: &mut Context<'_>,
) -> io::Result<()> {
    match closed.as_mut().poll(cx) {
        Poll::Ready(()) => Err(aborted()),
        Poll::Pending => Ok(()),
    }
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the link was closed")
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        check(&mut self.read_aborted, cx)?;
        let before = buffer.filled().len();
        ready!(self.io.as_mut().poll_read(cx, buffer))?;
        let ended = buffer.filled().len() == before && buffer.remaining() > 0;
        // Transports drop their streams when the link breaks, which would look like a clean end.
        Poll::Ready(if ended && self.link.is_cancelled() { Err(aborted()) } else { Ok(()) })
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        check(&mut self.write_aborted, cx)?;
        self.io.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        check(&mut self.write_aborted, cx)?;
        self.io.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        check(&mut self.write_aborted, cx)?;
        self.io.as_mut().poll_shutdown(cx)
    }
}
