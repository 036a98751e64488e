//! One session: its process, the bytes of its channels, and who is attached.
//!
//! Four parties meet here: the pumps of the three pipes ([`super::pipes`]), and the stream that is attached
//! ([`super::carry`]).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use osvm_wire::message::{
    Attached, Channel, Exit, Outcome, Received, Refusal, SessionFrame, SessionId, SessionInfo,
    Spawn,
};
use osvm_wire::session::{Incoming, Outgoing, Piece, SessionError};
use rustix::process::{Pid, Signal};
use tokio::sync::{Notify, watch};

use crate::process::Cage;

pub(super) struct Session {
    id: SessionId,
    pid: Pid,
    command: String,
    started: Instant,
    cage: Cage,
    state: Mutex<State>,
    exit: watch::Sender<Option<Exit>>,
    /// The pump of stdin has something to do.
    pub(super) input: Notify,
    /// The pumps of the outputs may have room.
    pub(super) room: [Notify; 2],
}

/// One stream's hold on a session. The latest one counts.
#[derive(Clone)]
pub(super) struct Attachment {
    number: u64,
    changed: Arc<Notify>,
}

/// What a stream does next.
pub(super) enum Next {
    Frame(SessionFrame),
    /// Nothing until something changes.
    Wait,
    /// The session needs no stream any more.
    Over,
    /// Another stream has the session.
    Replaced,
}

/// What a session is left as when a stream lets go of it.
pub(super) enum Left {
    /// Nobody needs it any more.
    Done,
    /// It waits to be attached again.
    Waiting,
    /// Another stream has it.
    Replaced,
}

/// One of the two outputs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    Stdout = 0,
    Stderr = 1,
}

struct State {
    stdin: Incoming,
    stdin_bytes: VecDeque<u8>,
    at_line_start: bool,
    outputs: [Outgoing; 2],
    /// The output that goes first next time, so that neither starves the other.
    turn: Which,
    attachment: Attachment,
    attached: bool,
    exit_sent: bool,
    done: bool,
}

impl Session {
    pub(super) fn new(spawn: &Spawn, pid: Pid, cage: Cage) -> Self {
        Self {
            id: spawn.session,
            pid,
            command: spawn.argv[0].clone(),
            started: Instant::now(),
            cage,
            state: Mutex::new(State::new()),
            exit: watch::Sender::new(None),
            input: Notify::new(),
            room: [Notify::new(), Notify::new()],
        }
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    pub(super) fn command(&self) -> &str {
        &self.command
    }

    pub(super) fn cage(&self) -> &Cage {
        &self.cage
    }

    pub(super) fn describe(&self) -> SessionInfo {
        SessionInfo {
            session: self.id,
            pid: self.pid(),
            command: self.command.clone(),
            attached: self.lock().attached,
            age_millis: self.started.elapsed().as_millis() as u64,
            exit: *self.exit.borrow(),
        }
    }

    pub(super) fn kill(&self) {
        if self.exit.borrow().is_none() {
            self.cage.kill(self.pid);
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> rustix::io::Result<()> {
        match *self.exit.borrow() {
            Some(_) => Ok(()),
            None => self.cage.signal(self.pid, signal),
        }
    }

    /// The process is gone: kills what it left behind, and notes the exit.
    pub(super) fn exited(&self, outcome: Outcome) -> Exit {
        let exit = Exit { outcome, oom_killed: self.cage.ran_out_of_memory(outcome) };
        self.cage.kill(self.pid);
        self.exit.send_replace(Some(exit));
        self.input.notify_one();
        self.lock().attachment.changed.notify_one();
        exit
    }

    pub(super) async fn wait_for_exit(&self) {
        // The sender lives as long as this session does.
        let _ = self.exit.subscribe().wait_for(Option::is_some).await;
    }

    /// Attaches the stream that started the session.
    pub(super) fn attach(&self) -> Attachment {
        self.lock().attach()
    }

    /// Attaches another stream; the one attached until now ends.
    pub(super) fn reattach(
        &self,
        received: Option<Received>,
    ) -> Result<(Attachment, Attached), Refusal> {
        let mut state = self.lock();
        let [stdout, stderr] = state.rewind(received).map_err(|_| Refusal::BytesLost(self.id))?;
        let attached = Attached {
            pid: self.pid(),
            stdin_received: state.stdin.received(),
            stdin_taken: state.stdin.consumed(),
            stdin_at_line_start: state.at_line_start,
            stdin_ended: state.stdin.has_ended(),
            stdout,
            stderr,
        };
        Ok((state.attach(), attached))
    }

    pub(super) fn detach(&self, attachment: &Attachment) -> Left {
        let mut state = self.lock();
        if state.done {
            return Left::Done;
        }
        if state.attachment.number != attachment.number {
            return Left::Replaced;
        }
        state.attached = false;
        Left::Waiting
    }

    /// Nobody needs the session any more: the attached stream ends when it has sent what there is.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        state.done = true;
        state.outputs.iter_mut().for_each(Outgoing::close);
        state.attachment.changed.notify_one();
        self.wake_pumps();
    }

    fn wake_pumps(&self) {
        self.input.notify_one();
        self.room.iter().for_each(Notify::notify_one);
    }

    pub(super) fn is_finished(&self) -> bool {
        self.lock().done
    }

    /// Whether no other stream was attached since.
    pub(super) fn is_attached_by(&self, attachment: &Attachment) -> bool {
        self.lock().attachment.number == attachment.number
    }

    /// What to send to the host now.
    pub(super) fn next_frame(&self, attachment: &Attachment) -> Next {
        let exit = *self.exit.borrow();
        let mut state = self.lock();
        if state.attachment.number != attachment.number {
            return Next::Replaced;
        }
        match state.next_frame(exit) {
            Some(frame) => Next::Frame(frame),
            None if state.done => Next::Over,
            None => Next::Wait,
        }
    }

    /// Takes in what came from the host, unless another stream has taken over.
    pub(super) fn accept(
        &self,
        attachment: &Attachment,
        frame: SessionFrame,
    ) -> Result<(), SessionError> {
        let mut state = self.lock();
        if state.attachment.number == attachment.number {
            state.accept(frame)?;
            self.wake_pumps();
        }
        Ok(())
    }

    /// The next bytes for the process's stdin, at most `limit`; they stay until they are consumed.
    pub(super) fn peek_input(&self, limit: usize) -> Input {
        let state = self.lock();
        if !state.stdin_bytes.is_empty() {
            return Input::Bytes(state.stdin_bytes.iter().take(limit).copied().collect());
        }
        if state.stdin.has_ended() || state.done { Input::End } else { Input::None }
    }

    pub(super) fn consume_input(&self, count: usize) {
        let mut state = self.lock();
        state.stdin_bytes.drain(..count);
        state.stdin.consume(count);
        state.attachment.changed.notify_one();
    }

    /// How many bytes of an output may be read from the process now.
    pub(super) fn room(&self, which: Which) -> usize {
        self.lock().outputs[which as usize].room()
    }

    pub(super) fn push_output(&self, which: Which, bytes: &[u8]) {
        let mut state = self.lock();
        state.outputs[which as usize].push(bytes);
        state.attachment.changed.notify_one();
    }

    pub(super) fn end_output(&self, which: Which) {
        let mut state = self.lock();
        state.outputs[which as usize].close();
        state.attachment.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attachment {
    /// Waits until there may be something to send, or the attachment has ended.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// What there is for the process to read.
pub(super) enum Input {
    Bytes(Vec<u8>),
    None,
    End,
}

impl State {
    fn new() -> Self {
        Self {
            stdin: Incoming::default(),
            stdin_bytes: VecDeque::new(),
            at_line_start: true,
            outputs: Default::default(),
            turn: Which::Stdout,
            attachment: Attachment { number: 0, changed: Arc::default() },
            attached: false,
            exit_sent: false,
            done: false,
        }
    }

    fn attach(&mut self) -> Attachment {
        let number = self.attachment.number + 1;
        self.attachment.changed.notify_one();
        self.attachment = Attachment { number, changed: Arc::default() };
        self.attached = true;
        self.exit_sent = false;
        self.stdin.repeat_ack();
        self.attachment.clone()
    }

    /// Goes back to what the host has received, or to what it acknowledged. Returns where.
    fn rewind(&mut self, received: Option<Received>) -> Result<[u64; 2], SessionError> {
        let [stdout, stderr] = &mut self.outputs;
        let at = received.map_or([stdout.acked(), stderr.acked()], |at| [at.stdout, at.stderr]);
        stdout.rewind(at[0])?;
        stderr.rewind(at[1])?;
        Ok(at)
    }

    fn next_frame(&mut self, exit: Option<Exit>) -> Option<SessionFrame> {
        self.next_ack().or_else(|| self.next_output()).or_else(|| self.next_exit(exit))
    }

    fn next_ack(&mut self) -> Option<SessionFrame> {
        let channel = Channel::Stdin;
        self.stdin.ack_due().map(|offset| SessionFrame::Ack { channel, offset })
    }

    fn next_output(&mut self) -> Option<SessionFrame> {
        let (first, second) = match self.turn {
            Which::Stdout => (Which::Stdout, Which::Stderr),
            Which::Stderr => (Which::Stderr, Which::Stdout),
        };
        self.turn = second;
        self.piece(first).or_else(|| self.piece(second))
    }

    fn piece(&mut self, which: Which) -> Option<SessionFrame> {
        let channel = which.channel();
        self.outputs[which as usize].next_piece().map(|piece| match piece {
            Piece::Data { offset, bytes } => SessionFrame::Data { channel, offset, bytes },
            Piece::End { offset } => SessionFrame::End { channel, offset },
        })
    }

    fn next_exit(&mut self, exit: Option<Exit>) -> Option<SessionFrame> {
        let exit = exit.filter(|_| !self.exit_sent)?;
        self.exit_sent = true;
        Some(SessionFrame::Exit(exit))
    }

    fn accept(&mut self, frame: SessionFrame) -> Result<(), SessionError> {
        match frame {
            SessionFrame::Data { channel: Channel::Stdin, offset, bytes } => {
                self.accept_input(offset, &bytes)
            }
            SessionFrame::End { channel: Channel::Stdin, offset } => self.stdin.accept_end(offset),
            SessionFrame::Ack { channel: Channel::Stdout, offset } => self.outputs[0].ack(offset),
            SessionFrame::Ack { channel: Channel::Stderr, offset } => self.outputs[1].ack(offset),
            SessionFrame::Done => {
                self.done = true;
                Ok(())
            }
            _ => Err(SessionError::WrongDirection),
        }
    }

    fn accept_input(&mut self, offset: u64, bytes: &[u8]) -> Result<(), SessionError> {
        let new = self.stdin.accept(offset, bytes)?;
        if let Some(last) = new.last() {
            self.at_line_start = *last == b'\n';
        }
        self.stdin_bytes.extend(new);
        Ok(())
    }
}

impl Which {
    fn channel(self) -> Channel {
        match self {
            Self::Stdout => Channel::Stdout,
            Self::Stderr => Channel::Stderr,
        }
    }
}
