//! A host for tests: the other end of the wire, as plain as can be.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use osvm_wire::message::*;
use osvm_wire::session::{Incoming, Outgoing, Piece};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};

use crate::agent::{Agent, Settings, StreamError};
use crate::machine::Machine;
use crate::talk::Talk;

/// Long enough for any machine; a test that needs it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A machine whose clock and power are not the test's to touch.
#[derive(Clone, Default)]
pub(crate) struct Dummy {
    pub(crate) prepared: Arc<AtomicBool>,
    pub(crate) off: Arc<AtomicBool>,
    pub(crate) renewed: Arc<AtomicU32>,
    pub(crate) boots: Arc<AtomicU32>,
    pub(crate) keeps_its_boot_id: bool,
}

impl Machine for Dummy {
    fn renew_id(&self) {
        self.renewed.fetch_add(1, Ordering::SeqCst);
    }

    fn renew_boot_id(&self) -> Result<(), Refusal> {
        if self.keeps_its_boot_id {
            return Err(Refusal::Failed { act: "boot".into(), why: "it can't".into() });
        }
        self.boots.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn prepare(&self, _prepare: &Prepare) -> Result<(), Refusal> {
        self.prepared.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn power_off(&self) {
        self.off.store(true, Ordering::SeqCst);
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        proc: "/proc".into(),
        etc: None,
        groups: None,
        as_init: false,
        expire_after: Duration::from_secs(600),
    }
}

pub(crate) fn agent() -> Arc<Agent> {
    Agent::start(settings(), Dummy::default()).unwrap()
}

pub(crate) fn id(number: u8) -> SessionId {
    SessionId([number; 16])
}

/// A shell that runs `script`.
pub(crate) fn shell(number: u8, script: &str) -> Spawn {
    let argv = ["/bin/sh", "-c", script].map(String::from).to_vec();
    Spawn { session: id(number), argv, ..Spawn::default() }
}

/// A stream that breaks after a number of bytes in either direction.
pub(crate) struct Cut {
    stream: DuplexStream,
    left: usize,
}

impl AsyncRead for Cut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut limited = buffer.take(self.left);
        let read = Pin::new(&mut self.stream).poll_read(cx, &mut limited);
        let count = limited.filled().len();
        // SAFETY: `take` shares the buffer's memory, and its first `count` bytes were just filled.
        unsafe { buffer.assume_init(count) };
        buffer.advance(count);
        self.left -= count;
        read
    }
}

impl AsyncWrite for Cut {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let end = bytes.len().min(self.left);
        let written = Pin::new(&mut self.stream).poll_write(cx, &bytes[..end]);
        if let Poll::Ready(Ok(count)) = written {
            self.left -= count;
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

/// A new stream to the agent that breaks after `bytes`.
pub(crate) fn dial(agent: &Arc<Agent>, bytes: usize) -> Talk<Cut> {
    let (ours, theirs) = duplex(8 * 1024);
    tokio::spawn(Arc::clone(agent).serve(theirs));
    Talk::new(Cut { stream: ours, left: bytes })
}

/// Asks over a stream that does not break.
pub(crate) async fn ask(agent: &Arc<Agent>, request: Request) -> Reply {
    open(agent, request).await.0
}

pub(crate) async fn open(agent: &Arc<Agent>, request: Request) -> (Reply, Talk<Cut>) {
    let mut talk = dial(agent, usize::MAX);
    talk.outgoing.send(&request).await.unwrap();
    let reply = talk.incoming.receive().await.unwrap().expect("a reply");
    (reply, talk)
}

pub(crate) async fn refusal(agent: &Arc<Agent>, request: Request) -> Refusal {
    match ask(agent, request).await {
        Reply::Refused(refusal) => refusal,
        other => panic!("not refused but {other:?}"),
    }
}

/// The host's memory of one session.
#[derive(Default)]
pub(crate) struct Client {
    pub(crate) input: VecDeque<u8>,
    /// Whether stdin ends after `input`.
    pub(crate) ends: bool,
    pub(crate) stdin: Outgoing,
    pub(crate) stdout: Output,
    pub(crate) stderr: Output,
    pub(crate) exit: Option<Exit>,
}

#[derive(Default)]
pub(crate) struct Output {
    pub(crate) count: Incoming,
    pub(crate) bytes: Vec<u8>,
    /// Received and never acknowledged.
    pub(crate) ignored: bool,
}

impl Client {
    pub(crate) fn new(input: &[u8]) -> Self {
        Self { input: input.to_vec().into(), ends: true, ..Self::default() }
    }

    /// Starts a session and carries it to its end over one stream.
    pub(crate) async fn run(agent: &Arc<Agent>, spawn: Spawn, input: &[u8]) -> Self {
        let mut client = Self::new(input);
        let (reply, mut talk) = open(agent, Request::Spawn(spawn)).await;
        assert!(matches!(reply, Reply::Spawned { .. }), "{reply:?}");
        client.carry(&mut talk, Self::is_over).await.unwrap();
        client
    }

    pub(crate) fn is_over(&self) -> bool {
        self.exit.is_some() && self.stdout.count.is_done() && self.stderr.count.is_done()
    }

    /// Carries until `enough`, or until the stream breaks. Says good-bye when all is over.
    pub(crate) async fn carry(
        &mut self,
        talk: &mut Talk<Cut>,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<(), StreamError> {
        while !enough(self) {
            while let Some(frame) = self.next_frame() {
                talk.outgoing.send(&frame).await?;
            }
            let received = tokio::time::timeout(DEADLINE, talk.incoming.receive()).await;
            match received.expect("a frame within the deadline")? {
                Some(frame) => self.accept(frame),
                None => return Err(StreamError::Read(io::ErrorKind::UnexpectedEof.into())),
            }
        }
        if self.is_over() {
            talk.outgoing.send(&SessionFrame::Done).await?;
        }
        Ok(())
    }

    fn next_frame(&mut self) -> Option<SessionFrame> {
        let count = self.stdin.push(self.input.make_contiguous());
        self.input.drain(..count);
        if self.ends && self.input.is_empty() {
            self.stdin.close();
        }
        let ack = |channel, offset| SessionFrame::Ack { channel, offset };
        if let Some(offset) = self.stdout.count.ack_due() {
            return Some(ack(Channel::Stdout, offset));
        }
        if let Some(offset) = self.stderr.count.ack_due() {
            return Some(ack(Channel::Stderr, offset));
        }
        let channel = Channel::Stdin;
        self.stdin.next_piece().map(|piece| match piece {
            Piece::Data { offset, bytes } => SessionFrame::Data { channel, offset, bytes },
            Piece::End { offset } => SessionFrame::End { channel, offset },
        })
    }

    fn accept(&mut self, frame: SessionFrame) {
        match frame {
            SessionFrame::Data { channel, offset, bytes } => {
                self.output(channel).accept(offset, &bytes);
            }
            SessionFrame::End { channel, offset } => {
                self.output(channel).count.accept_end(offset).unwrap();
            }
            SessionFrame::Ack { channel: Channel::Stdin, offset } => {
                self.stdin.ack(offset).unwrap();
            }
            SessionFrame::Exit(exit) => self.exit = Some(exit),
            other => panic!("unexpected {other:?}"),
        }
    }

    fn output(&mut self, channel: Channel) -> &mut Output {
        match channel {
            Channel::Stdout => &mut self.stdout,
            Channel::Stderr => &mut self.stderr,
            Channel::Stdin => panic!("the guest sent on stdin"),
        }
    }

    pub(crate) fn received(&self) -> Received {
        Received { stdout: self.stdout.count.received(), stderr: self.stderr.count.received() }
    }

    pub(crate) fn code(&self) -> Option<Outcome> {
        self.exit.map(|exit| exit.outcome)
    }
}

impl Output {
    fn accept(&mut self, offset: u64, bytes: &[u8]) {
        let new = self.count.accept(offset, bytes).unwrap();
        self.bytes.extend_from_slice(new);
        if !self.ignored {
            self.count.consume(new.len());
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Waits for something that has to become true.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let poll = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, poll)
        .await
        .unwrap_or_else(|_| panic!("{what} within the deadline"));
}

/// Whether a process runs: neither gone nor waiting to be reaped.
pub(crate) fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}
