//! The bookkeeping of a session's channels, the same on both ends: which bytes may be sent, which are
//! kept until acknowledged, and which have arrived before. No I/O and no clock.
//!
//! ```text
//! Outgoing   0 ....... acked ======= sent ------- end        = kept, on their way   - kept, unsent
//!                      |<------- at most WINDOW ------->|
//! Incoming   0 ....... acked ....... consumed ==== received   = held for the reader
//! ```

use std::collections::VecDeque;

use thiserror::Error;

use crate::message::Attached;

/// How many bytes of a channel may be on their way or unread: the sender stops there.
pub const WINDOW: usize = 256 * 1024;

/// Most bytes in one data frame, so that channels of one stream take turns.
pub const MAX_DATA: usize = 16 * 1024;

/// Consumed bytes are acknowledged in steps of this size, or when nothing is left unread.
const ACK_STEP: u64 = WINDOW as u64 / 8;

/// More bytes than any channel ever carries: offsets that a peer tells at the start are held below,
/// so that counting on from there can't overflow.
const MOST: u64 = u64::MAX / 2;

/// What the peer can't have meant; the stream is of no use after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SessionError {
    #[error("bytes at offset {found} arrived where offset {expected} was due")]
    Gap { expected: u64, found: u64 },
    #[error("more bytes arrived than the window of {WINDOW} allows")]
    Overrun,
    #[error("offset {offset} was acknowledged, but only {sent} bytes were sent")]
    AckedUnsent { offset: u64, sent: u64 },
    #[error("peer wants to go on at offset {offset}, which is no longer kept (from {kept})")]
    Forgotten { offset: u64, kept: u64 },
    #[error("bytes arrived after the end of their channel")]
    AfterEnd,
    #[error("frame belongs to the other direction")]
    WrongDirection,
    #[error("peer is at offset {offset}, where no session can be")]
    Impossible { offset: u64 },
}

/// Whether a session can stand where the peer says it does.
pub fn check(at: &Attached) -> Result<(), SessionError> {
    let farthest = [at.stdin_received, at.stdout, at.stderr].into_iter().find(|at| *at > MOST);
    let untaken = Some(at.stdin_taken).filter(|taken| *taken > at.stdin_received);
    match farthest.or(untaken) {
        Some(offset) => Err(SessionError::Impossible { offset }),
        None => Ok(()),
    }
}

/// The sending side of one channel.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// Everything before it may be forgotten.
    acked: u64,
    /// Offset of the first byte in `kept`. Above `acked` only after [`Self::resumed`].
    base: u64,
    kept: VecDeque<u8>,
    /// Offset of the next byte to send.
    sent: u64,
    ended: bool,
    end_sent: bool,
}

/// The next thing to send on a channel.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Data { offset: u64, bytes: Vec<u8> },
    End { offset: u64 },
}

impl Outgoing {
    /// The sending side of a channel whose earlier bytes somebody else sent: the peer has received all
    /// before `received` and will acknowledge what lies between `acked` and there. It is the peer that
    /// says so: numbers that can't be are taken for the nearest that can.
    pub fn resumed(acked: u64, received: u64) -> Self {
        let received = received.min(MOST);
        Self { acked: acked.min(received), base: received, sent: received, ..Self::default() }
    }

    /// How many bytes [`push`](Self::push) takes now.
    pub fn room(&self) -> usize {
        if self.ended { 0 } else { WINDOW.saturating_sub((self.end() - self.acked) as usize) }
    }

    /// Adds bytes to send: as many as there is [`room`](Self::room) for; returns their number.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.kept.extend(&bytes[..taken]);
        taken
    }

    /// No byte will follow.
    pub fn close(&mut self) {
        self.ended = true;
    }

    pub fn is_closed(&self) -> bool {
        self.ended
    }

    /// Whether there are bytes that the peer is not known to be done with.
    pub fn has_bytes(&self) -> bool {
        !self.kept.is_empty()
    }

    /// What to send next, if anything.
    pub fn next_piece(&mut self) -> Option<Piece> {
        let offset = self.sent;
        if offset < self.end() {
            let start = (offset - self.base) as usize;
            let stop = self.kept.len().min(start + MAX_DATA);
            let bytes: Vec<u8> = self.kept.range(start..stop).copied().collect();
            self.sent += bytes.len() as u64;
            return Some(Piece::Data { offset, bytes });
        }
        let end_due = self.ended && !self.end_sent;
        end_due.then(|| {
            self.end_sent = true;
            Piece::End { offset }
        })
    }

    /// The peer is done with everything before `offset`.
    pub fn ack(&mut self, offset: u64) -> Result<(), SessionError> {
        if offset > self.sent {
            return Err(SessionError::AckedUnsent { offset, sent: self.sent });
        }
        self.acked = self.acked.max(offset);
        let forget = self.acked.saturating_sub(self.base);
        self.kept.drain(..forget as usize);
        self.base += forget;
        Ok(())
    }

    /// After a hang-up: the peer has received everything before `received`; what follows is sent again.
    pub fn rewind(&mut self, received: u64) -> Result<(), SessionError> {
        if received < self.base {
            return Err(SessionError::Forgotten { offset: received, kept: self.base });
        }
        if received > self.end() {
            return Err(SessionError::AckedUnsent { offset: received, sent: self.end() });
        }
        self.sent = received;
        self.end_sent = false;
        Ok(())
    }

    /// Everything before it was acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Everything, the end included, was sent and acknowledged.
    pub fn is_done(&self) -> bool {
        self.end_sent && self.acked == self.end()
    }

    /// Offset after the last byte pushed.
    fn end(&self) -> u64 {
        self.base + self.kept.len() as u64
    }
}

/// The receiving side of one channel. It counts; the bytes themselves are held by its owner.
#[derive(Debug, Default)]
pub struct Incoming {
    acked: u64,
    consumed: u64,
    received: u64,
    end: Option<u64>,
    /// The last acknowledgement may not have arrived.
    repeat: bool,
}

impl Incoming {
    /// The receiving side of a channel whose bytes before `offset` somebody else has received.
    pub fn resumed(offset: u64) -> Self {
        let offset = offset.min(MOST);
        Self { acked: offset, consumed: offset, received: offset, ..Self::default() }
    }

    /// The bytes that are new among those that arrived at `offset`; earlier ones are repetitions.
    pub fn accept<'a>(&mut self, offset: u64, bytes: &'a [u8]) -> Result<&'a [u8], SessionError> {
        if offset > self.received {
            return Err(SessionError::Gap { expected: self.received, found: offset });
        }
        let known = (self.received - offset).min(bytes.len() as u64);
        let new = &bytes[known as usize..];
        if !new.is_empty() && self.end.is_some() {
            return Err(SessionError::AfterEnd);
        }
        if self.unread() + new.len() as u64 > WINDOW as u64 {
            return Err(SessionError::Overrun);
        }
        self.received += new.len() as u64;
        Ok(new)
    }

    /// The channel ends at `offset`.
    pub fn accept_end(&mut self, offset: u64) -> Result<(), SessionError> {
        if offset != self.received {
            return Err(SessionError::Gap { expected: self.received, found: offset });
        }
        self.end = Some(offset);
        Ok(())
    }

    /// The reader has taken `count` of the bytes held for it.
    pub fn consume(&mut self, count: usize) {
        self.consumed = (self.consumed + count as u64).min(self.received);
    }

    /// The offset to acknowledge now, if it is worth a frame.
    pub fn ack_due(&mut self) -> Option<u64> {
        let unacked = self.consumed - self.acked;
        let due = unacked >= ACK_STEP || (unacked > 0 && self.unread() == 0) || self.repeat;
        due.then(|| {
            self.repeat = false;
            self.acked = self.consumed;
            self.acked
        })
    }

    /// After a hang-up: the last acknowledgement may have been lost, so it is due again.
    pub fn repeat_ack(&mut self) {
        self.repeat = self.consumed > 0;
    }

    pub fn received(&self) -> u64 {
        self.received
    }

    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Whether the sender has said that no byte follows those received.
    pub fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Whether the reader has taken everything there ever will be.
    pub fn is_done(&self) -> bool {
        self.end == Some(self.consumed)
    }

    fn unread(&self) -> u64 {
        self.received - self.consumed
    }
}
