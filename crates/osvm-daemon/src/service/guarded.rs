//! A client's stream, with a guard between it and the conversation with its server.
//!
//! ```text
//! client ── forward ──> guard ──> near ═ far ──> session
//! client <──── back ─── guard <── near ═ far <── session
//! client <─── aside ─── guard <── a VM for one call
//! ```

use std::borrow::Cow;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use osvm_mcp::lines::LineReader;
use osvm_mcp::{Guard, Limits, Passage};
use tokio::io::{
    AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split,
};
use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc};

use super::apart::{Apart, Calls, Made};
use super::between::whole;
use super::tools::Watch;
use super::upgrade::Stream as Outer;

/// The session's end.
pub(super) type Stream = DuplexStream;

/// What waits between the two, in bytes.
const CAPACITY: usize = 64 << 10;

/// How long calls in VMs of their own may take once the session has ended, as the session's may.
const LAST_WORDS: Duration = Duration::from_secs(10);

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
    /// Calls that are not the session's.
    apart: Calls,
    guard: Mutex<Guard>,
    to_client: AsyncMutex<WriteHalf<C>>,
    /// A queue, so that nobody but the client waits for a session that does not read. None once the client's input has
    /// ended.
    to_server: Mutex<Option<mpsc::Sender<Vec<u8>>>>,
    /// Calls were made, or answered.
    changed: Notify,
    /// The same, for whoever waits for the last.
    answered: Notify,
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
    let (apart, made) = Calls::new(apart);
    let gate = Gate {
        guard: Mutex::new(watch.guard()),
        watch,
        apart,
        to_client: AsyncMutex::new(to_client),
        to_server: Mutex::new(Some(queue)),
        changed: Notify::new(),
        answered: Notify::new(),
    };
    tokio::select! {
        () = gate.back(from_server) => {}
        () = gate.forward(from_client) => {}
        () = gate.limit() => {}
        () = gate.aside(made) => {}
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
            let ready = &mut |guard: &mut Guard| self.ready(guard);
            let passage = self.guard().of_client_calling(&line, Instant::now(), ready);
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

    /// Tells the guard what holds for a call that begins now.
    fn ready(&self, guard: &mut Guard) {
        self.apart.daemon().renew_rates();
        guard.shut(self.watch.obstacle(guard.open_calls()));
        guard.mark(self.watch.place().mark());
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
        let _ = tokio::time::timeout(LAST_WORDS, self.others()).await;
    }

    /// Waits until no call is open that is not the session's.
    async fn others(&self) {
        loop {
            let mut answered = std::pin::pin!(self.answered.notified());
            // Before it is looked, so that nothing is missed.
            answered.as_mut().enable();
            if self.guard().open_apart() == 0 {
                return;
            }
            answered.await;
        }
    }

    /// Tells the client what became of calls that were not for the session.
    async fn aside(&self, mut told: mpsc::UnboundedReceiver<Made>) {
        while let Some(Made { number, result }) = told.recv().await {
            let result = result.as_ref().map(AsRef::as_ref).map_err(Clone::clone);
            let passage = self.guard().answer_apart(number, result, Instant::now());
            if self.deliver(passage).await.is_none() {
                return;
            }
        }
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
        self.answered.notify_waiters();
        Some(())
    }

    fn hand_out(&self) {
        let calls = self.guard().take_apart();
        for call in calls {
            let limits = self.watch.rules.policy.limits_of(&call.tool);
            self.apart.begin(call, limits);
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
            let place = match call.apart {
                Some(number) => self.apart.left(number),
                None => self.watch.place(),
            };
            self.watch.record(call, client.as_ref(), &place);
        }
    }
}
