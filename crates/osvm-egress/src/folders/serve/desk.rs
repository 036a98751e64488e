//! The letter box, and on whose connection it is emptied.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use osvm_wire::post::{Header, MAX_KEPT, Post, PostError};

use super::connection::Connection;
use crate::folders::nodes::locked;

/// A connection ends when more than [`MAX_KEPT`] bytes are unseen on it, as when many threads of the guest's
/// each read a lot: the next begins with what was seen. With more than this left, none does.
const MOST_UNSEEN: usize = 4 * MAX_KEPT;

/// Connections are numbered; only the last may send and receive.
pub(super) type Turn = u64;

#[derive(Debug, Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    post: Post,
    turn: Turn,
    /// To be hung up when its turn is over.
    stream: Option<UnixStream>,
    /// Once it was greeted.
    connection: Option<Arc<Connection>>,
    /// Somebody sends, and goes on while there is something.
    is_sending: bool,
    is_closed: bool,
}

impl State {
    fn pass_turn(&mut self) {
        if let Some(stream) = self.stream.take() {
            // Gone already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.connection = None;
        self.is_sending = false;
        self.turn += 1;
    }
}

impl Desk {
    /// Ends the connection before.
    pub(super) fn next_turn(&self, stream: &UnixStream) -> io::Result<Turn> {
        let stream = stream.try_clone()?;
        let mut state = locked(&self.state);
        state.pass_turn();
        state.stream = Some(stream);
        Ok(state.turn)
    }

    pub(super) fn end_turn(&self, turn: Turn) {
        let mut state = locked(&self.state);
        if state.turn == turn {
            state.pass_turn();
        }
    }

    pub(super) fn close(&self) {
        let mut state = locked(&self.state);
        state.pass_turn();
        state.is_closed = true;
        self.changed.notify_all();
    }

    /// How many of the guest's messages have arrived, for a guest that has seen so many of ours; nothing when
    /// the turn is over.
    pub(super) fn resume(&self, turn: Turn, seen: u64) -> Result<Option<u64>, PostError> {
        let mut state = locked(&self.state);
        if state.turn != turn {
            return Ok(None);
        }
        state.post.resume(seen)?;
        // Or every connection would leave some more.
        if state.post.kept_bytes() > MOST_UNSEEN {
            return Err(PostError::Unseen);
        }
        Ok(Some(state.post.seen()))
    }

    pub(super) fn begin(&self, connection: Connection) {
        let mut state = locked(&self.state);
        if state.turn == connection.turn && !state.is_closed {
            state.connection = Some(Arc::new(connection));
            self.changed.notify_all();
            drop(state);
            self.send();
        }
    }

    /// Whose turn it is; waits for one. Nothing when the desk is closed.
    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        let mut state = locked(&self.state);
        while !state.is_closed {
            if let Some(connection) = &state.connection {
                return Some(Arc::clone(connection));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }

    /// False if the message came too late: it will come again on the connection whose turn it is.
    pub(super) fn arrived(&self, turn: Turn, header: Header) -> Result<bool, PostError> {
        let mut state = locked(&self.state);
        if state.turn != turn {
            return Ok(false);
        }
        state.post.arrived(header)?;
        Ok(true)
    }

    pub(super) fn put(&self, answer: Vec<u8>) {
        let mut state = locked(&self.state);
        if let Err(error) = state.post.put(answer)
            && state.connection.is_some()
        {
            // It is kept all the same. What was seen is said when the next connection begins.
            tracing::warn!("{error}");
            state.pass_turn();
        }
        drop(state);
        self.send();
    }

    /// All there is to send, unless somebody is about it.
    fn send(&self) {
        let mut state = locked(&self.state);
        while !state.is_sending
            && let Some(connection) = state.connection.clone()
            && let Some((header, message)) = state.post.next()
        {
            let bytes = [&header[..], message].concat();
            state.is_sending = true;
            drop(state);
            let sent = (&connection.stream).write_all(&bytes);
            state = locked(&self.state);
            if state.turn != connection.turn {
                // What was not seen is sent again, and not by us.
                return;
            }
            state.is_sending = false;
            if sent.is_err() {
                state.pass_turn();
            }
        }
    }
}
