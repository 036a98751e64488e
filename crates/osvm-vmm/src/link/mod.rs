//! The way between host and agent: streams to numbered ports, in both directions.
//!
//! Two kinds of transport stand behind it: one multiplexed byte channel ([`mux`], opened by
//! [`greet()`]), or channels of their own (vsock, and the fake's memory). A hang-up, by either end
//! or by the VMM's death, ends the link and every stream of it; a stream ended that way fails with
//! `ConnectionAborted` instead of looking like a clean end.

mod greet;
pub(crate) mod mux;
mod stream;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use osvm_wire::link::HandshakeError;
use thiserror::Error;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};
use tokio_util::sync::CancellationToken;

pub(crate) use greet::greet;
pub use stream::Stream;

use crate::Process;

/// Streams that wait for [`Link::accept`]. A guest that opens more is refused.
pub(crate) const ACCEPT_QUEUE: usize = 16;

/// Streams of one link that we hold open at a time, and that the guest may.
pub(crate) const MAX_OPENED: usize = 48;
pub(crate) const MAX_ACCEPTED: usize = 64;

/// An open link. Clones are the same link; dropping the last one hangs up.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    closed: CancellationToken,
    transport: Box<dyn Transport>,
    incoming: Mutex<mpsc::Receiver<(u32, Stream)>>,
}

/// What differs between transports: how a stream is opened.
#[async_trait]
pub(crate) trait Transport: Send + Sync {
    async fn open(&self, port: u32) -> Result<Stream, LinkError>;
}

/// Why there is no link, or no stream.
#[derive(Debug, Error)]
pub enum LinkError {
    #[error("connect to {}", socket.display())]
    Unreachable { socket: PathBuf, source: std::io::Error },
    #[error("listen for the guest on {}", socket.display())]
    GuestPort { socket: PathBuf, source: std::io::Error },
    #[error("reach the guest's agent: no answer within {seconds} s")]
    Silent { seconds: f32 },
    #[error("reach the guest's agent: another link to this machine is still open")]
    Busy,
    #[error("reach the guest's agent")]
    Handshake(#[from] HandshakeError),
    #[error("make up a generation for the link")]
    Random(#[source] getrandom::Error),
    #[error("reach the guest's agent: the machine has ended")]
    Ended,
    #[error("open a stream to guest port {port}: the guest refused")]
    Refused { port: u32 },
    #[error("open a stream to guest port {port}: {limit} streams are open already")]
    TooMany { port: u32, limit: usize },
    #[error("use the link: it is closed")]
    Closed,
}

impl Link {
    pub(crate) fn new(
        closed: CancellationToken,
        transport: Box<dyn Transport>,
        incoming: mpsc::Receiver<(u32, Stream)>,
    ) -> Self {
        Self { shared: Arc::new(Shared { closed, transport, incoming: Mutex::new(incoming) }) }
    }

    /// Opens a stream to a port of the guest. Where the transport can't tell (virtio-serial), a
    /// port on which nobody listens shows as an end of the stream.
    pub async fn open(&self, port: u32) -> Result<Stream, LinkError> {
        tokio::select! {
            biased;
            () = self.shared.closed.cancelled() => Err(LinkError::Closed),
            stream = self.shared.transport.open(port) => stream,
        }
    }

    /// The next stream that the guest opened, with its port: one of
    /// [`Machine::guest_ports`](crate::Machine::guest_ports). [`LinkError::Closed`] when no more
    /// will come.
    pub async fn accept(&self) -> Result<(u32, Stream), LinkError> {
        let next = async { self.shared.incoming.lock().await.recv().await };
        tokio::select! {
            biased;
            () = self.shared.closed.cancelled() => Err(LinkError::Closed),
            stream = next => stream.ok_or(LinkError::Closed),
        }
    }

    /// Ends the link and every stream of it. The machine goes on and can be connected to again.
    pub fn hang_up(&self) {
        self.shared.closed.cancel();
    }

    /// Waits for the link's end, whoever hung up.
    pub async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }

    pub fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("is_closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

/// A machine's room for one link at a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(Arc<Mutex<()>>);

impl Place {
    /// Waits for the place, then runs `connect` with it, all within `deadline`.
    pub(crate) async fn connect<F>(
        &self,
        deadline: Duration,
        connect: impl FnOnce(OwnedMutexGuard<()>) -> F,
    ) -> Result<Link, LinkError>
    where
        F: Future<Output = Result<Link, LinkError>>,
    {
        let end = tokio::time::Instant::now() + deadline;
        let place = tokio::time::timeout_at(end, Arc::clone(&self.0).lock_owned()).await;
        let place = place.map_err(|_| LinkError::Busy)?;
        let link = tokio::time::timeout_at(end, connect(place)).await;
        link.map_err(|_| LinkError::Silent { seconds: deadline.as_secs_f32() })?
    }
}

/// Ends the link with the process, then lets go of `held`.
pub(crate) fn end_with(process: Process, closed: CancellationToken, held: impl Send + 'static) {
    tokio::spawn(async move {
        tokio::select! {
            () = closed.cancelled() => {}
            _ = process.exited() => closed.cancel(),
        }
        drop(held);
    });
}

#[cfg(test)]
mod tests;
