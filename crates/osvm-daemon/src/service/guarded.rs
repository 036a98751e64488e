//! A client's stream, with a guard between it and the conversation with its server.
//!
//! ```text
//! client ── forward ──> guard ──> near ═ far ──> session
//! client <──── back ─── guard <── near ═ far <── session
//! client <─── aside ─── guard <── a VM for one call
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use osvm_mcp::lines::LineReader;
use osvm_mcp::{Apart as Handed, Guard, Limits, Passage, Unmade};
use serde_json::value::RawValue;
use tokio::io::{
    AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split,
};
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};

use super::apart::Apart;
use super::between::whole;
use super::place::Place;
use super::tools::Watch;
use super::upgrade::Stream as Outer;

/// The session's end.
pub(super) type Stream = DuplexStream;

/// What waits between the two, in bytes.
const CAPACITY: usize = 64 << 10;

/// Lines that a session has not read yet.
const MOST_QUEUED: usize = 16;

/// Carries a client's bytes to a session and back, as far as the guard lets them.
pub(super) async fn carry<F: Future<Output = ()>>(
    watch: Watch,
    apart: Apart,
    client: Outer,
    session: impl FnOnce(Stream) -> F,
) {
    let (near, far) = duplex(CAPACITY);
    let _ = tokio::join!(session(far), pass(watch, apart, client, near));
}

/// The two ends, and who stands between them.
struct Gate<C> {
    watch: Watch,
    apart: Apart,
    /// Where calls are made that are not the session's, by their numbers.
    places: Mutex<BTreeMap<u64, Place>>,
    /// Such calls, on their way there.
    handed: mpsc::UnboundedSender<Handed>,
    guard: Mutex<Guard>,
    to_client: AsyncMutex<WriteHalf<C>>,
    /// A queue, so that nobody but the client waits for a session that does not read. None once the client's input has
    /// ended.
    to_server: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    /// Calls were made, or answered.
    changed: Notify,
}

/// Until the session has no more to say, or the client can't be told.
async fn pass<C, S>(watch: Watch, apart: Apart, client: C, session: S)
where
    C: AsyncRead + AsyncWrite,
    S: AsyncRead + AsyncWrite,
{
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(session);
    let (queue, queued) = mpsc::channel(MOST_QUEUED);
    // The guard lets few be open.
    let (hand, handed) = mpsc::unbounded_channel();
    let gate = Gate {
        guard: Mutex::new(watch.guard()),
        watch,
        apart,
        places: Mutex::default(),
        handed: hand,
        to_client: AsyncMutex::new(to_client),
        to_server: Mutex::new(Some(queue)),
        changed: Notify::new(),
    };
    tokio::select! {
        () = gate.back(from_server) => {}
        () = gate.forward(from_client) => {}
        () = gate.limit() => {}
        () = gate.aside(handed) => {}
        () = speak(to_server, queued) => {}
    }
    gate.guard().end(Instant::now());
    gate.record();
}

/// Writes what is queued, and then that there is no more. What the session says then is still passed on.
async fn speak(mut to: WriteHalf<impl AsyncWrite>, mut queued: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = queued.recv().await {
        // A session that is over ends by what it has said.
        if to.write_all(&line).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
    std::future::pending::<()>().await;
}

impl<C: AsyncWrite> Gate<C> {
    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the client says, until its end.
    async fn forward(&self, from: ReadHalf<impl AsyncRead>) {
        let mut lines = LineReader::new(from, Limits::default().line_bytes);
        while let Ok(Some(line)) = lines.next().await {
            let line = whole(line);
            self.apart.daemon.renew_rates();
            let passage = {
                let mut guard = self.guard();
                let obstacle = self.watch.obstacle(guard.open_calls());
                guard.shut(obstacle);
                guard.mark(self.watch.place().mark());
                guard.of_client(&line, Instant::now())
            };
            let to_server = passage.to_server.to_vec();
            if self.deliver(Passage { to_server: Cow::default(), ..passage }).await.is_none() {
                return;
            }
            if let Some(queue) = self.queue().filter(|_| !to_server.is_empty()) {
                let _ = queue.send(to_server).await;
            }
        }
        self.to_server.lock().unwrap_or_else(PoisonError::into_inner).take();
        std::future::pending::<()>().await;
    }

    async fn back(&self, from: ReadHalf<impl AsyncRead>) {
        let mut lines = LineReader::new(from, Limits::default().line_bytes);
        while let Ok(Some(line)) = lines.next().await {
            let line = whole(line);
            let passage = self.guard().of_server(&line, Instant::now());
            if self.deliver(passage).await.is_none() {
                return;
            }
        }
    }

    /// Has calls made that are not for the session, beside it and beside each other. What is open ends with this.
    async fn aside(&self, mut handed: mpsc::UnboundedReceiver<Handed>) {
        let mut open = FuturesUnordered::new();
        loop {
            let (number, made) = tokio::select! {
                Some(call) = handed.recv() => {
                    open.push(self.make(call));
                    continue;
                }
                Some(made) = open.next() => made,
            };
            let Some(made) = made else { continue };
            let made = made.as_ref().map(AsRef::as_ref).map_err(Clone::clone);
            let passage = self.guard().answer_apart(number, made, Instant::now());
            if self.deliver(passage).await.is_none() {
                return;
            }
        }
    }

    /// Nothing of a call that is not waited for any more.
    async fn make(&self, call: Handed) -> (u64, Option<Result<Box<RawValue>, Unmade>>) {
        let Handed { number, tool, arguments, wanted } = call;
        let place = Place::default();
        self.places().insert(number, place.clone());
        let limit = |usual| self.watch.limit(&tool, usual);
        let made = tokio::select! {
            _ = wanted => None,
            made = self.apart.make(&tool, arguments, &place, limit) => Some(made),
        };
        (number, made)
    }

    fn places(&self) -> MutexGuard<'_, BTreeMap<u64, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what takes too long.
    async fn limit(&self) {
        loop {
            let due = self.guard().next_due();
            let wait = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.changed.notified() => {}
                () = wait => {
                    let passage = self.guard().due(Instant::now());
                    if self.deliver(passage).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Nothing when the client can't be told any more.
    async fn deliver(&self, passage: Passage<'_>) -> Option<()> {
        self.hand_out();
        self.record();
        self.changed.notify_one();
        if !passage.to_client.is_empty() {
            let mut client = self.to_client.lock().await;
            client.write_all(&passage.to_client).await.ok()?;
            client.flush().await.ok()?;
        }
        if let Some(queue) = self.queue().filter(|_| !passage.to_server.is_empty()) {
            // A session that does not read is not told.
            let _ = queue.try_send(passage.to_server.into_owned());
        }
        Some(())
    }

    fn hand_out(&self) {
        for call in self.guard().take_apart() {
            // The other end lives as long as this.
            let _ = self.handed.send(call);
        }
    }

    fn queue(&self) -> Option<mpsc::Sender<Vec<u8>>> {
        self.to_server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn record(&self) {
        let (ended, client) = {
            let mut guard = self.guard();
            (guard.take_ended(), guard.client().cloned())
        };
        for call in ended {
            let own = call.apart.and_then(|number| self.places().remove(&number));
            let place = own.unwrap_or_else(|| self.watch.place());
            self.watch.record(call, client.as_ref(), &place);
        }
    }
}
