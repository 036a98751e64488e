//! Counts a connection's bytes, and tells when none has moved for long.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// What has moved so far.
#[derive(Debug)]
pub(crate) struct Meter {
    since: Instant,
    sent: AtomicU64,
    received: AtomicU64,
    /// When a byte moved last, in milliseconds after `since`.
    last: AtomicU64,
}

/// The host's side of a connection, where bytes are counted.
pub(crate) struct Metered<S> {
    stream: S,
    meter: Arc<Meter>,
}

impl Meter {
    pub(crate) fn start() -> Arc<Self> {
        let (since, zero) = (Instant::now(), AtomicU64::default);
        Arc::new(Self { since, sent: zero(), received: zero(), last: zero() })
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    pub(crate) fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Returns when no byte has moved for as long as `limit`.
    pub(crate) async fn idle(&self, limit: Duration) {
        loop {
            let last = self.since + Duration::from_millis(self.last.load(Relaxed));
            if last.elapsed() >= limit {
                return;
            }
            sleep_until(last + limit).await;
        }
    }

    fn count(&self, counter: &AtomicU64, bytes: usize) {
        if bytes > 0 {
            counter.fetch_add(bytes as u64, Relaxed);
            self.last.store(self.age().as_millis() as u64, Relaxed);
        }
    }
}

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, meter: Arc<Meter>) -> Self {
        Self { stream, meter }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.meter.count(&self.meter.received, buf.filled().len() - before);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(length)) = written {
            self.meter.count(&self.meter.sent, length);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn bytes_are_counted_by_their_direction() {
        let (ours, mut theirs) = duplex(64);
        let meter = Meter::start();
        let mut metered = Metered::new(ours, meter.clone());
        metered.write_all(b"12345").await.unwrap();
        theirs.write_all(b"123").await.unwrap();
        metered.read_exact(&mut [0; 3]).await.unwrap();
        assert_eq!((meter.sent(), meter.received()), (5, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_either_way_puts_the_idle_limit_off() {
        let limit = Duration::from_secs(60);
        let (ours, mut theirs) = duplex(64);
        let meter = Meter::start();
        let mut metered = Metered::new(ours, meter.clone());
        let start = Instant::now();
        let traffic = async {
            tokio::time::sleep(limit / 2).await;
            metered.write_all(b"1").await.unwrap();
            tokio::time::sleep(limit / 2).await;
            theirs.write_all(b"1").await.unwrap();
            metered.read_exact(&mut [0; 1]).await.unwrap();
        };
        tokio::join!(traffic, meter.idle(limit));
        assert_eq!(start.elapsed(), limit * 2);
    }
}
