//! Where streams that the guest opens come in: each names its port first, and only known ports
//! pass.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use osvm_wire::link::parse_port;
use tokio::io::AsyncReadExt;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tokio_util::sync::CancellationToken;

use crate::link::{MAX_ACCEPTED, Stream};

/// How long a guest may take to name a stream's port.
const PORT_DEADLINE: Duration = Duration::from_secs(5);

pub(super) struct Door {
    ports: Arc<BTreeSet<u32>>,
    places: Arc<Semaphore>,
    accepted: mpsc::Sender<(u32, Stream)>,
    closed: CancellationToken,
}

impl Door {
    pub(super) fn new(
        ports: &[u32],
        accepted: mpsc::Sender<(u32, Stream)>,
        closed: CancellationToken,
    ) -> Self {
        let ports = Arc::new(ports.iter().copied().collect());
        Self { ports, places: Arc::new(Semaphore::new(MAX_ACCEPTED)), accepted, closed }
    }

    /// Whether the guest may open streams at all. One stream too many is dropped, which resets it.
    pub(super) fn let_in(&self, stream: yamux::Stream) -> bool {
        if self.ports.is_empty() {
            return false;
        }
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            let stream = Stream::new(stream.compat(), &self.closed).in_place(place);
            let (ports, accepted) = (Arc::clone(&self.ports), self.accepted.clone());
            tokio::spawn(async move {
                let port = tokio::time::timeout(PORT_DEADLINE, introduce(stream)).await;
                if let Ok(Some((port, stream))) = port
                    && ports.contains(&port)
                {
                    // A full queue refuses: the stream is dropped.
                    let _ = accepted.try_send((port, stream));
                }
            });
        }
        true
    }
}

async fn introduce(mut stream: Stream) -> Option<(u32, Stream)> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.ok()?;
    Some((parse_port(header), stream))
}
