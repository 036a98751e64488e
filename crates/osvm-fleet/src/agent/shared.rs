//! Where a session's handles and its pump meet: the bytes of the three channels, the exit, and who is to be
//! woken when one of them changes.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use osvm_wire::message::{Attached, Channel, Exit, Received, SessionFrame};
use osvm_wire::session::{Incoming, Outgoing, Piece, SessionError};
use tokio::io::ReadBuf;
use tokio::sync::Notify;

use super::session::SessionLost;

/// One session, as its handles and its pump see it.
pub(super) struct Shared {
    state: Mutex<State>,
    /// The pump has something to send, or nobody to work for any more.
    changed: Notify,
}

/// A handle's share; when the last is dropped the pump stops.
pub(super) struct Handle(Arc<Shared>);

/// One of the two channels the host reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Stdout,
    Stderr,
}

#[derive(Default)]
pub(super) struct State {
    stdin: Outgoing,
    stdin_waker: Option<Waker>,
    stdout: Inbox,
    stderr: Inbox,
    exit: Option<Exit>,
    lost: Option<SessionLost>,
    exit_waker: Option<Waker>,
    done_sent: bool,
    handles: usize,
}

/// Bytes of one output that wait for their reader.
#[derive(Default)]
struct Inbox {
    count: Incoming,
    bytes: VecDeque<u8>,
    waker: Option<Waker>,
    /// Nobody reads: take everything, so that the process is not stopped by a full window.
    discard: bool,
}

impl Shared {
    pub(super) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Waits until [`next_frame`](Self::next_frame) or [`is_abandoned`](Self::is_abandoned) may say something new.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().handles == 0
    }

    /// The guest was told that it may forget the session, or the session was lost.
    pub(super) fn is_over(&self) -> bool {
        let state = self.lock();
        state.done_sent || state.lost.is_some()
    }

    /// Whether the process has not been told all that it was sent. An end without anything before it can wait.
    pub(super) fn has_input(&self) -> bool {
        let state = self.lock();
        state.exit.is_none() && state.stdin.has_bytes()
    }

    /// What to send to the guest now: acknowledgements first, they make room at the other end.
    pub(super) fn next_frame(&self) -> Option<SessionFrame> {
        self.lock().next_frame()
    }

    /// Takes in what came from the guest.
    pub(super) fn accept(&self, frame: SessionFrame) -> Result<(), SessionError> {
        let result = self.lock().accept(frame);
        self.changed.notify_one();
        result
    }

    pub(super) fn received(&self) -> Received {
        let state = self.lock();
        Received { stdout: state.stdout.count.received(), stderr: state.stderr.count.received() }
    }

    /// Prepares to go on over a new stream.
    pub(super) fn reattached(&self, at: &Attached) -> Result<(), SessionError> {
        self.lock().reattached(at)
    }

    /// Ends the session for all its handles.
    pub(super) fn lose(&self, lost: SessionLost) {
        self.lock().lose(lost);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds this lock, and the state is sound between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.lock().handles += 1;
        Self(Arc::clone(shared))
    }

    pub(super) fn poll_write(&self, cx: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock();
        if state.is_over() || state.stdin.is_closed() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let count = state.stdin.push(bytes);
        if count == 0 && !bytes.is_empty() {
            state.stdin_waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        self.0.changed.notify_one();
        Poll::Ready(Ok(count))
    }

    pub(super) fn end_stdin(&self) {
        self.0.lock().stdin.close();
        self.0.changed.notify_one();
    }

    pub(super) fn poll_read(
        &self,
        which: Which,
        cx: &Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.0.lock();
        let lost = state.lost.clone();
        let inbox = state.inbox(which);
        if inbox.read(buffer) {
            self.0.changed.notify_one();
            return Poll::Ready(Ok(()));
        }
        if inbox.count.has_ended() {
            return Poll::Ready(Ok(()));
        }
        if let Some(lost) = lost {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, lost)));
        }
        inbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn discard(&self, which: Which) {
        self.0.lock().inbox(which).discard();
        self.0.changed.notify_one();
    }

    pub(super) fn poll_exit(&self, cx: &Context<'_>) -> Poll<Result<Exit, SessionLost>> {
        let mut state = self.0.lock();
        match (state.exit, &state.lost) {
            (Some(exit), _) => Poll::Ready(Ok(exit)),
            (None, Some(lost)) => Poll::Ready(Err(lost.clone())),
            (None, None) => {
                state.exit_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.lock().handles -= 1;
        self.0.changed.notify_one();
    }
}

impl State {
    /// The state of a session that somebody else carried until now.
    pub(super) fn resumed(at: &Attached) -> Self {
        let mut stdin = Outgoing::resumed(at.stdin_taken, at.stdin_received);
        if at.stdin_ended {
            stdin.close();
        }
        Self {
            stdin,
            stdout: Inbox::resumed(at.stdout),
            stderr: Inbox::resumed(at.stderr),
            ..Self::default()
        }
    }

    fn next_frame(&mut self) -> Option<SessionFrame> {
        if self.done_sent {
            return None;
        }
        self.next_ack().or_else(|| self.next_done()).or_else(|| self.next_input())
    }

    fn next_ack(&mut self) -> Option<SessionFrame> {
        let ack = |channel, offset| SessionFrame::Ack { channel, offset };
        let stdout = self.stdout.count.ack_due().map(|offset| ack(Channel::Stdout, offset));
        stdout.or_else(|| self.stderr.count.ack_due().map(|offset| ack(Channel::Stderr, offset)))
    }

    fn next_done(&mut self) -> Option<SessionFrame> {
        let all_read = self.stdout.count.is_done() && self.stderr.count.is_done();
        self.done_sent = self.exit.is_some() && all_read;
        self.done_sent.then_some(SessionFrame::Done)
    }

    fn next_input(&mut self) -> Option<SessionFrame> {
        let channel = Channel::Stdin;
        self.stdin.next_piece().map(|piece| match piece {
            Piece::Data { offset, bytes } => SessionFrame::Data { channel, offset, bytes },
            Piece::End { offset } => SessionFrame::End { channel, offset },
        })
    }

    fn accept(&mut self, frame: SessionFrame) -> Result<(), SessionError> {
        match frame {
            SessionFrame::Data { channel, offset, bytes } => {
                self.output(channel)?.accept(offset, &bytes)
            }
            SessionFrame::End { channel, offset } => self.output(channel)?.accept_end(offset),
            SessionFrame::Ack { channel: Channel::Stdin, offset } => self.acked(offset),
            SessionFrame::Exit(exit) => {
                self.exit = Some(exit);
                self.wake_all();
                Ok(())
            }
            SessionFrame::Replaced => {
                self.lose(SessionLost::because("it was attached by somebody else"));
                Ok(())
            }
            SessionFrame::Ack { .. } | SessionFrame::Done => Err(SessionError::WrongDirection),
        }
    }

    fn acked(&mut self, offset: u64) -> Result<(), SessionError> {
        self.stdin.ack(offset)?;
        wake(&mut self.stdin_waker);
        Ok(())
    }

    fn reattached(&mut self, at: &Attached) -> Result<(), SessionError> {
        self.stdin.rewind(at.stdin_received)?;
        self.acked(at.stdin_taken)?;
        self.stdout.count.repeat_ack();
        self.stderr.count.repeat_ack();
        self.done_sent = false;
        Ok(())
    }

    fn lose(&mut self, lost: SessionLost) {
        self.lost.get_or_insert(lost);
        self.wake_all();
    }

    fn is_over(&self) -> bool {
        self.exit.is_some() || self.lost.is_some()
    }

    fn wake_all(&mut self) {
        let State { stdin_waker, exit_waker, stdout, stderr, .. } = self;
        [stdin_waker, exit_waker, &mut stdout.waker, &mut stderr.waker].into_iter().for_each(wake);
    }

    fn output(&mut self, channel: Channel) -> Result<&mut Inbox, SessionError> {
        match channel {
            Channel::Stdout => Ok(&mut self.stdout),
            Channel::Stderr => Ok(&mut self.stderr),
            Channel::Stdin => Err(SessionError::WrongDirection),
        }
    }

    fn inbox(&mut self, which: Which) -> &mut Inbox {
        match which {
            Which::Stdout => &mut self.stdout,
            Which::Stderr => &mut self.stderr,
        }
    }
}

impl Inbox {
    fn resumed(offset: u64) -> Self {
        Self { count: Incoming::resumed(offset), ..Self::default() }
    }

    fn accept(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SessionError> {
        self.bytes.extend(self.count.accept(offset, bytes)?);
        if self.discard {
            self.discard();
        }
        wake(&mut self.waker);
        Ok(())
    }

    fn accept_end(&mut self, offset: u64) -> Result<(), SessionError> {
        self.count.accept_end(offset)?;
        wake(&mut self.waker);
        Ok(())
    }

    /// Moves what there is into the buffer; whether there was anything.
    fn read(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let (front, _) = self.bytes.as_slices();
        let count = front.len().min(buffer.remaining());
        buffer.put_slice(&front[..count]);
        self.bytes.drain(..count);
        self.count.consume(count);
        count > 0
    }

    fn discard(&mut self) {
        self.discard = true;
        self.count.consume(self.bytes.len());
        self.bytes.clear();
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
