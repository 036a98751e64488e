//! Frames: how a message is laid out in a stream.
//!
//! ```text
//! version u8 | kind u8 | length u32 LE | crc32 u32 LE | payload (postcard)
//! ```
//!
//! The checksum covers version, kind, length and payload. It is there because bytes of an old writer
//! may be cut off in the middle of a frame when the host's side of a serial port dies. The length is
//! checked against [`MAX_PAYLOAD`] before anything is allocated.

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::VERSION;

/// Size of everything before the payload.
pub const HEADER_LEN: usize = 10;

/// Largest payload: room for a long command line and environment in one request.
pub const MAX_PAYLOAD: usize = 1024 * 1024;

/// A family of messages; tells what the payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Request = 1,
    Reply = 2,
    Event = 3,
    Session = 4,
    HostRequest = 5,
    HostAnswer = 6,
    OpenFolder = 7,
    FolderAnswer = 8,
}

/// A message that travels in frames of one kind.
pub trait Message: Serialize + DeserializeOwned {
    const KIND: Kind;
}

/// Why bytes are no frame, or a message fits none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    #[error("peer speaks protocol version {theirs}, this side speaks version {ours}")]
    Version { ours: u8, theirs: u8 },
    #[error("frame of kind {found} where kind {wanted} was due")]
    Kind { wanted: u8, found: u8 },
    #[error("frame of {0} bytes, the limit is {MAX_PAYLOAD}")]
    TooLong(usize),
    #[error("frame's checksum is wrong")]
    Checksum,
    #[error("frame's payload is no message of its kind")]
    Payload,
    #[error("stream ended in the middle of a frame")]
    Truncated,
}

/// The frame that carries `message`.
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, FrameError> {
    let frame =
        postcard::to_extend(message, vec![0; HEADER_LEN]).map_err(|_| FrameError::Payload)?;
    seal(frame, M::KIND)
}

/// Fills in the header in front of a payload.
fn seal(mut frame: Vec<u8>, kind: Kind) -> Result<Vec<u8>, FrameError> {
    let length = frame.len() - HEADER_LEN;
    let checked = u32::try_from(length).ok().filter(|_| length <= MAX_PAYLOAD);
    let length = checked.ok_or(FrameError::TooLong(length))?;
    frame[0] = VERSION;
    frame[1] = kind as u8;
    frame[2..6].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&frame);
    frame[6..HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    Ok(frame)
}

/// Takes frames out of a stream that arrives in pieces of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// How much of the buffer's front was decoded already.
    taken: usize,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, or `None` until more bytes are pushed. After an error the stream is of no use.
    pub fn decode<M: Message>(&mut self) -> Result<Option<M>, FrameError> {
        let bytes = &self.buffer[self.taken..];
        let Some(end) = frame_end(bytes, M::KIND)? else { return Ok(None) };
        let Some(frame) = bytes.get(..end) else { return Ok(None) };
        let message = open(frame)?;
        self.taken += end;
        Ok(Some(message))
    }

    /// What has arrived after the last message, of a stream that goes on without frames.
    pub fn into_rest(mut self) -> Vec<u8> {
        self.buffer.drain(..self.taken);
        self.buffer
    }

    /// To be asked when the stream has ended.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.taken == self.buffer.len() { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

/// Where the frame at the front of `bytes` ends; `None` if that can't be told yet.
fn frame_end(bytes: &[u8], wanted: Kind) -> Result<Option<usize>, FrameError> {
    if let Some(&theirs) = bytes.first()
        && theirs != VERSION
    {
        return Err(FrameError::Version { ours: VERSION, theirs });
    }
    let Some(&[_, found, a, b, c, d, ..]) = bytes.first_chunk::<HEADER_LEN>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes([a, b, c, d]) as usize;
    if length > MAX_PAYLOAD {
        return Err(FrameError::TooLong(length));
    }
    if found != wanted as u8 {
        return Err(FrameError::Kind { wanted: wanted as u8, found });
    }
    Ok(Some(HEADER_LEN + length))
}

/// The message in a whole frame.
fn open<M: Message>(frame: &[u8]) -> Result<M, FrameError> {
    if checksum(frame).to_le_bytes() != frame[6..HEADER_LEN] {
        return Err(FrameError::Checksum);
    }
    match postcard::take_from_bytes(&frame[HEADER_LEN..]) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Payload),
    }
}

fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..6]);
    hasher.update(&frame[HEADER_LEN..]);
    hasher.finalize()
}
