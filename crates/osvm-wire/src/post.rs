//! Messages that survive a hang-up: each side keeps what it has sent until the other has seen it, and sends it
//! again on the next stream. No I/O.
//!
//! ```text
//! seen u64 LE | length u32 LE | message       seen: how many messages of the other side have arrived
//! ```

use std::collections::VecDeque;

use thiserror::Error;

/// Size of what stands before a message.
pub const HEADER_LEN: usize = 12;

/// Largest message: FUSE's largest write with its headers.
pub const MAX_MESSAGE: usize = (1 << 20) + (64 << 10);

/// Most bytes that are kept for a peer that does not see them.
pub const MAX_KEPT: usize = 16 << 20;

/// What the peer can't have meant; the stream is of no use after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PostError {
    #[error("message of {0} bytes, the limit is {MAX_MESSAGE}")]
    TooLong(usize),
    #[error("peer has seen {seen} messages, {sent} were sent")]
    SeenUnsent { seen: u64, sent: u64 },
    #[error("peer has seen {seen} messages, those from {kept} on are kept")]
    Forgotten { seen: u64, kept: u64 },
    #[error("peer has left more than {MAX_KEPT} bytes of messages unseen")]
    Unseen,
}

/// What stands before a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub seen: u64,
    pub length: usize,
}

impl Header {
    pub fn parse(bytes: [u8; HEADER_LEN]) -> Result<Self, PostError> {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let length = u32::from_le_bytes([i, j, k, l]) as usize;
        let seen = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        if length > MAX_MESSAGE {
            Err(PostError::TooLong(length))
        } else {
            Ok(Self { seen, length })
        }
    }

    fn bytes(self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&self.seen.to_le_bytes());
        bytes[8..].copy_from_slice(&(self.length as u32).to_le_bytes());
        bytes
    }
}

/// One side's letter box.
#[derive(Debug, Default)]
pub struct Post {
    /// Not known to have been seen.
    kept: VecDeque<Vec<u8>>,
    kept_bytes: usize,
    /// Number of the first in `kept`.
    first: u64,
    /// How many of `kept` were sent on this stream.
    sent: usize,
    /// How many messages were ever sent.
    furthest: u64,
    /// How many of the other side's have arrived.
    seen: u64,
}

impl Post {
    pub fn put(&mut self, message: Vec<u8>) -> Result<(), PostError> {
        if message.len() > MAX_MESSAGE {
            return Err(PostError::TooLong(message.len()));
        }
        self.kept_bytes += message.len();
        self.kept.push_back(message);
        if self.kept_bytes > MAX_KEPT { Err(PostError::Unseen) } else { Ok(()) }
    }

    /// How many bytes of messages are kept.
    pub fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// The next to send on this stream, with what stands before it.
    #[expect(clippy::should_implement_trait, reason = "an iterator lends nothing of its own")]
    pub fn next(&mut self) -> Option<([u8; HEADER_LEN], &[u8])> {
        let message = self.kept.get(self.sent)?;
        self.sent += 1;
        self.furthest = self.furthest.max(self.first + self.sent as u64);
        Some((Header { seen: self.seen, length: message.len() }.bytes(), message))
    }

    /// A message of the other side's has arrived, and this stood before it.
    pub fn arrived(&mut self, header: Header) -> Result<(), PostError> {
        self.seen += 1;
        self.forget(header.seen)
    }

    /// How many of the other side's have arrived.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// There is a new stream, and the other side has seen this many.
    pub fn resume(&mut self, seen: u64) -> Result<(), PostError> {
        self.sent = 0;
        self.forget(seen)
    }

    /// What the peer has seen is kept no longer.
    fn forget(&mut self, seen: u64) -> Result<(), PostError> {
        if seen > self.furthest {
            return Err(PostError::SeenUnsent { seen, sent: self.furthest });
        }
        let Some(count) = seen.checked_sub(self.first) else {
            return Err(PostError::Forgotten { seen, kept: self.first });
        };
        let count = count as usize;
        self.kept_bytes -= self.kept.drain(..count).map(|message| message.len()).sum::<usize>();
        self.sent = self.sent.saturating_sub(count);
        self.first = seen;
        Ok(())
    }
}
