//! What waits to be written. The queue is unbounded, what goes into it is not: a request's lines
//! hold the request's place, and replies have places of their own.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::Shared;
use super::open::Place;

/// Replies to the server that may wait. It asked for them, so it is expected to read them.
const REPLIES: usize = 64;

/// For what is queued when the connection is dropped, or for the rest of the server's output after
/// its input broke.
const GRACE: Duration = Duration::from_secs(2);

/// The sending end.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: mpsc::UnboundedSender<Queued>,
    replies: Arc<Semaphore>,
    /// Only dropped, which tells the writer.
    _alive: oneshot::Sender<()>,
}

/// The receiving end.
#[derive(Debug)]
pub(super) struct Queue {
    lines: mpsc::UnboundedReceiver<Queued>,
    alive: oneshot::Receiver<()>,
}

#[derive(Debug)]
struct Queued {
    line: Vec<u8>,
    /// Given back when the line is written.
    _place: Option<Place>,
}

pub(super) fn channel() -> (Outbox, Queue) {
    let (queue, lines) = mpsc::unbounded_channel();
    let (_alive, alive) = oneshot::channel();
    (Outbox { queue, replies: Arc::new(Semaphore::new(REPLIES)), _alive }, Queue { lines, alive })
}

impl Outbox {
    /// Queues a line. After the writer's end it is dropped: whoever waits hears of the end.
    pub(super) fn send(&self, line: Vec<u8>, place: Option<Place>) {
        let _ = self.queue.send(Queued { line, _place: place });
    }

    /// Queues an answer to the server, unless it leaves too many unread.
    pub(super) fn reply(&self, line: Vec<u8>) {
        match Arc::clone(&self.replies).try_acquire_owned() {
            Ok(place) => self.send(line, Some(Arc::new(place))),
            Err(_) => tracing::debug!("the server reads no replies, one is dropped"),
        }
    }
}

/// Writes until the connection is dropped, then ends the server's input.
pub(super) async fn write<W>(queue: Queue, mut writer: W, shared: Weak<Shared>)
where
    W: AsyncWrite + Unpin,
{
    let Queue { mut lines, alive } = queue;
    let written = async {
        while let Some(Queued { line, .. }) = lines.recv().await {
            writer.write_all(&line).await?;
            writer.flush().await?;
        }
        writer.shutdown().await
    };
    let abandoned = async {
        let _ = alive.await;
        tokio::time::sleep(GRACE).await;
        Ok(())
    };
    let outcome: std::io::Result<()> = tokio::select! {
        outcome = written => outcome,
        outcome = abandoned => outcome,
    };
    if let Err(error) = outcome {
        // Its last words may still be on their way, and say more than a broken pipe does.
        tokio::time::sleep(GRACE).await;
        if let Some(shared) = shared.upgrade() {
            shared.end(shared.closed(format!("writing failed: {error}")));
        }
    }
}
