//! The letter box, and whose turn it is to empty it.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use osvm_wire::post::{HEADER_LEN, Header, Post, PostError};

use crate::folders::nodes::locked;

/// How long an answer waits for room in the letter box. A guest that has more to ask makes room by asking; one
/// that has not must say on a new connection what it has seen.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections are numbered; only the last may send and receive.
pub(super) type Turn = u64;

#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    post: Post,
    turn: Turn,
    stream: Option<UnixStream>,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), changed: Condvar::new() }
    }

    /// Ends the connection before.
    pub(super) fn next_turn(&self, stream: &UnixStream) -> io::Result<Turn> {
        let mut state = locked(&self.state);
        hang_up(state.stream.take());
        state.turn += 1;
        state.stream = Some(stream.try_clone()?);
        self.changed.notify_all();
        Ok(state.turn)
    }

    /// That connection is over.
    pub(super) fn end_turn(&self, turn: Turn) {
        let mut state = locked(&self.state);
        if state.turn == turn {
            hang_up(state.stream.take());
            state.turn += 1;
            self.changed.notify_all();
        }
    }

    pub(super) fn close(&self) {
        let mut state = locked(&self.state);
        hang_up(state.stream.take());
        state.turn += 1;
        self.changed.notify_all();
    }

    /// How many of the guest's messages have arrived, for a guest that has seen so many of ours.
    pub(super) fn resume(&self, turn: Turn, seen: u64) -> Result<Option<u64>, PostError> {
        let mut state = locked(&self.state);
        if state.turn != turn {
            return Ok(None);
        }
        state.post.resume(seen)?;
        self.changed.notify_all();
        Ok(Some(state.post.seen()))
    }

    /// False if the message came too late: it will come again on the connection whose turn it is.
    pub(super) fn arrived(&self, turn: Turn, header: Header) -> Result<bool, PostError> {
        let mut state = locked(&self.state);
        if state.turn != turn {
            return Ok(false);
        }
        state.post.arrived(header)?;
        self.changed.notify_all();
        Ok(true)
    }

    pub(super) fn put(&self, answer: Vec<u8>) {
        let mut state = self.with_room_for(answer.len());
        if let Err(error) = state.post.put(answer)
            && let Some(stream) = state.stream.take()
        {
            // It is kept all the same, and what was seen is said when the next connection begins.
            tracing::warn!("{error}");
            hang_up(Some(stream));
        }
        self.changed.notify_all();
    }

    /// Without a connection nobody makes room, and what is under way comes to little: no more requests come.
    fn with_room_for(&self, length: usize) -> MutexGuard<'_, State> {
        let is_full =
            |state: &mut State| state.stream.is_some() && !state.post.has_room_for(length);
        let waited = self.changed.wait_timeout_while(locked(&self.state), PATIENCE, is_full);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// The next to send, when there is one; nothing when the turn is over.
    pub(super) fn next(&self, turn: Turn) -> Option<([u8; HEADER_LEN], Vec<u8>)> {
        let mut state = locked(&self.state);
        while state.turn == turn {
            if let Some((header, message)) = state.post.next() {
                return Some((header, message.to_vec()));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

fn hang_up(stream: Option<UnixStream>) {
    if let Some(stream) = stream {
        // Gone already.
        let _ = stream.shutdown(Shutdown::Both);
    }
}
