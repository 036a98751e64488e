//! A guest for tests: one session whose process echoes stdin to stdout and stderr, and ends with its stdin.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use osvm_wire::message::*;
use osvm_wire::session::{Incoming, Outgoing, Piece};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::Notify;

use crate::agent::AgentError;
use crate::agent::dial::{AgentStream, Dial};
use crate::agent::exchange::Exchange;

#[derive(Clone, Default)]
pub(super) struct Guest(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
pub(super) struct State {
    session: Option<SessionId>,
    /// Counts attachments; the last one has the session.
    attached: usize,
    stdin: Incoming,
    echo: VecDeque<u8>,
    outputs: [Outgoing; 2],
    exit_sent: bool,
    /// The process does not read: its stdin fills up.
    pub(super) stuck: bool,
    pub(super) done: bool,
    pub(super) requests: Vec<Request>,
}

/// What the process exits with.
pub(super) const EXIT: Exit = Exit { outcome: Outcome::Code(7), oom_killed: false };

impl Guest {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Forgets its session, as if it had expired.
    pub(super) fn forget(&self) {
        self.state().session = None;
        self.hang_up();
    }

    /// Ends the session's stream, as an agent never does.
    pub(super) fn hang_up(&self) {
        self.state().attached += 1;
        self.0.changed.notify_waiters();
    }

    /// Lets a stuck process go on.
    pub(super) fn unstick(&self) {
        self.state().stuck = false;
        self.0.changed.notify_waiters();
    }

    async fn serve(self, stream: Box<dyn AgentStream>) {
        // A broken link is what these tests are about.
        let _ = self.converse(Exchange::new(stream)).await;
    }

    async fn converse(&self, mut exchange: Exchange) -> Result<(), AgentError> {
        let Some(request) = exchange.incoming.receive::<Request>().await? else { return Ok(()) };
        let reply = self.state().answer(&request);
        let attached = self.state().attached;
        // Whoever was attached until now has to find out.
        self.0.changed.notify_waiters();
        exchange.outgoing.send(&reply).await?;
        match reply {
            Reply::Spawned { .. } | Reply::Attached(_) => self.carry(attached, exchange).await,
            Reply::Watching => {
                let event = Event::Expired { session: SessionId([5; 16]) };
                exchange.outgoing.send(&event).await
            }
            _ => Ok(()),
        }
    }

    async fn carry(&self, attached: usize, exchange: Exchange) -> Result<(), AgentError> {
        let Exchange { mut incoming, mut outgoing } = exchange;
        let receive = async {
            while let Some(frame) = incoming.receive::<SessionFrame>().await? {
                self.state().accept(attached, frame);
                self.0.changed.notify_waiters();
            }
            Ok(())
        };
        let send = async {
            loop {
                let changed = self.0.changed.notified();
                let next = self.state().next(attached);
                match next {
                    Some(frame) => outgoing.send(&frame).await?,
                    None if self.state().attached != attached => return Ok(()),
                    None => changed.await,
                }
            }
        };
        tokio::select! {
            received = receive => received,
            sent = send => sent,
        }
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> Reply {
        self.requests.push(request.clone());
        match request {
            Request::Hello => {
                Reply::Hello(Hello { agent: "1".into(), kernel: "6".into(), boot_id: "b".into() })
            }
            Request::Prepare(_) | Request::GoOn(_) => Reply::Prepared,
            Request::Spawn(spawn) | Request::Rehearse(spawn) => self.spawn(spawn),
            Request::Attach(attach) => self.attach(attach),
            Request::Sessions => Reply::Sessions(vec![]),
            Request::Close(_) => Reply::Closed,
            Request::Signal { .. } => Reply::Signalled,
            Request::Stats => Reply::Stats(Stats { processes: 3, ..Stats::default() }),
            Request::Watch => Reply::Watching,
            Request::PowerOff => Reply::PoweringOff,
            Request::Grant(_) | Request::GrantWithFiles { .. } => Reply::Granted,
        }
    }

    fn spawn(&mut self, spawn: &Spawn) -> Reply {
        if spawn.argv.first().is_some_and(|command| command == "missing") {
            let (command, searched) = ("missing".into(), "/bin".into());
            return Reply::Refused(Refusal::CommandNotFound { command, searched });
        }
        if self.session.is_some() {
            return Reply::Refused(Refusal::SessionExists(spawn.session));
        }
        self.session = Some(spawn.session);
        self.attached += 1;
        Reply::Spawned { pid: 81 }
    }

    fn attach(&mut self, attach: &Attach) -> Reply {
        if self.session != Some(attach.session) {
            return Reply::Refused(Refusal::NoSuchSession(attach.session));
        }
        let [stdout, stderr] = &mut self.outputs;
        let received =
            attach.received.unwrap_or(Received { stdout: stdout.acked(), stderr: stderr.acked() });
        stdout.rewind(received.stdout).unwrap();
        stderr.rewind(received.stderr).unwrap();
        self.stdin.repeat_ack();
        self.exit_sent = false;
        self.attached += 1;
        Reply::Attached(Attached {
            pid: 81,
            stdin_received: self.stdin.received(),
            stdin_taken: self.stdin.consumed(),
            stdin_at_line_start: false,
            stdin_ended: self.stdin.has_ended(),
            stdout: received.stdout,
            stderr: received.stderr,
        })
    }

    fn accept(&mut self, attached: usize, frame: SessionFrame) {
        if self.attached != attached {
            return;
        }
        match frame {
            SessionFrame::Data { channel: Channel::Stdin, offset, bytes } => {
                self.echo.extend(self.stdin.accept(offset, &bytes).unwrap());
            }
            SessionFrame::End { channel: Channel::Stdin, offset } => {
                self.stdin.accept_end(offset).unwrap();
            }
            SessionFrame::Ack { channel: Channel::Stdout, offset } => {
                self.outputs[0].ack(offset).unwrap();
            }
            SessionFrame::Ack { channel: Channel::Stderr, offset } => {
                self.outputs[1].ack(offset).unwrap();
            }
            SessionFrame::Done => {
                self.done = true;
                self.session = None;
            }
            other => panic!("the host sent {other:?}"),
        }
    }

    fn next(&mut self, attached: usize) -> Option<SessionFrame> {
        if self.attached != attached {
            return None;
        }
        self.work();
        if let Some(offset) = self.stdin.ack_due() {
            return Some(SessionFrame::Ack { channel: Channel::Stdin, offset });
        }
        for (output, channel) in self.outputs.iter_mut().zip([Channel::Stdout, Channel::Stderr]) {
            match output.next_piece() {
                Some(Piece::Data { offset, bytes }) => {
                    return Some(SessionFrame::Data { channel, offset, bytes });
                }
                Some(Piece::End { offset }) => return Some(SessionFrame::End { channel, offset }),
                None => {}
            }
        }
        let exit_due = self.outputs[0].is_closed() && !std::mem::replace(&mut self.exit_sent, true);
        exit_due.then_some(SessionFrame::Exit(EXIT))
    }

    /// The process: echoes as much as both outputs have room for.
    fn work(&mut self) {
        if self.stuck {
            return;
        }
        let room = self.outputs.iter().map(Outgoing::room).min().unwrap();
        let count = self.echo.len().min(room);
        let bytes: Vec<u8> = self.echo.drain(..count).collect();
        self.stdin.consume(count);
        for output in &mut self.outputs {
            output.push(&bytes);
            if self.stdin.is_done() {
                output.close();
            }
        }
    }
}

/// A link that breaks after a number of bytes, all streams of it at once.
#[derive(Clone)]
pub(super) struct Link {
    guest: Guest,
    budget: Arc<Budget>,
}

struct Budget {
    left: AtomicUsize,
    /// One for each end of a stream; ends come in pairs.
    readers: Mutex<Vec<Arc<AtomicWaker>>>,
    broken: Notify,
}

impl Link {
    pub(super) fn new(guest: &Guest, bytes: usize) -> Self {
        let budget = Budget {
            left: AtomicUsize::new(bytes),
            readers: Mutex::default(),
            broken: Notify::new(),
        };
        Self { guest: guest.clone(), budget: Arc::new(budget) }
    }

    /// Breaks now.
    pub(super) fn hang_up(&self) {
        self.budget.spend(usize::MAX);
    }

    pub(super) async fn broken(&self) {
        while !self.budget.is_spent() {
            self.budget.broken.notified().await;
        }
    }

    fn end(&self, stream: DuplexStream) -> Box<dyn AgentStream> {
        let reader = Arc::new(AtomicWaker::new());
        self.budget.readers.lock().unwrap().push(Arc::clone(&reader));
        Box::new(End { stream, budget: Arc::clone(&self.budget), reader })
    }
}

impl Dial for Link {
    fn dial(&self, port: u32) -> BoxFuture<'_, io::Result<Box<dyn AgentStream>>> {
        assert_eq!(port, osvm_wire::AGENT_PORT);
        Box::pin(async move {
            if self.budget.is_spent() {
                return Err(broken());
            }
            let (ours, theirs) = tokio::io::duplex(4096);
            tokio::spawn(self.guest.clone().serve(self.end(theirs)));
            Ok(self.end(ours))
        })
    }
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    fn spend(&self, bytes: usize) {
        let rest = |left: usize| Some(left.saturating_sub(bytes));
        let _ = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, rest);
        if self.is_spent() {
            self.readers.lock().unwrap().iter().for_each(|reader| reader.wake());
            self.broken.notify_one();
        }
    }
}

struct End {
    stream: DuplexStream,
    budget: Arc<Budget>,
    reader: Arc<AtomicWaker>,
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the link is broken")
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.reader.register(cx.waker());
        let left = self.budget.left.load(Ordering::SeqCst);
        if left == 0 {
            return Poll::Ready(Err(broken()));
        }
        let mut bytes = vec![0; left.min(buffer.remaining())];
        let mut part = ReadBuf::new(&mut bytes);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut part);
        buffer.put_slice(part.filled());
        self.budget.spend(part.filled().len());
        read
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.budget.is_spent() {
            return Poll::Ready(Err(broken()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
