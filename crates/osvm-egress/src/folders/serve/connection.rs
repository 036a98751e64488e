//! One connection: how it begins, and the messages that are read from it.

use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::Duration;

use osvm_wire::frame::{self, Decoder, FrameError};
use osvm_wire::grant::{FolderAnswer, OpenFolder};
use osvm_wire::post::{self, Header, PostError};
use thiserror::Error;

use super::desk::{Desk, Turn};
use crate::folders::lent::Lent;
use crate::folders::nodes::locked;

/// Whoever connects says at once what for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest first frame: it holds numbers only.
const MAX_GREETING: usize = 256;

/// Most requests are small, and come together.
const READ_AHEAD: usize = 16 << 10;

/// Before it was said what for.
pub(super) struct Greeting {
    pub(super) stream: UnixStream,
    pub(super) turn: Turn,
}

/// After.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    pub(super) turn: Turn,
    /// The same stream.
    reading: Mutex<BufReader<UnixStream>>,
}

/// Why a connection is of no more use. The folder is lent on.
#[derive(Debug, Error)]
pub(super) enum Broken {
    #[error("connection: {0}")]
    Stream(#[from] io::Error),
    #[error("connection: {0}")]
    Frame(#[from] FrameError),
    #[error("connection: {0}")]
    Post(#[from] PostError),
}

impl Broken {
    /// That a connection ends is nothing to be told.
    pub(super) fn report(&self) {
        match self {
            Self::Stream(error) if is_hang_up(error) => {}
            _ => tracing::warn!("{self}"),
        }
    }
}

impl Greeting {
    /// The number of the folder is the daemon's affair: here there is one.
    ///
    /// The connection, if it goes on from where the last has ended.
    pub(super) fn exchange(self, lent: &Lent, desk: &Desk) -> Result<Option<Connection>, Broken> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        let opening = self.opening()?;
        self.stream.set_read_timeout(None)?;
        let answer = match desk.resume(self.turn, opening.seen) {
            Ok(None) => return Ok(None),
            Ok(Some(seen)) => FolderAnswer::Opened { seen },
            Err(error) => FolderAnswer::Refused { why: error.to_string() },
        };
        (&self.stream).write_all(&frame::encode(&answer)?)?;
        if let FolderAnswer::Refused { .. } = answer {
            return Ok(None);
        }
        lent.show_as(opening.uid, opening.gid);
        let reading = Mutex::new(BufReader::with_capacity(READ_AHEAD, self.stream.try_clone()?));
        Ok(Some(Connection { stream: self.stream, turn: self.turn, reading }))
    }

    /// Not a byte more is read: FUSE's messages follow.
    fn opening(&self) -> Result<OpenFolder, Broken> {
        let mut bytes = vec![0; frame::HEADER_LEN];
        (&self.stream).read_exact(&mut bytes)?;
        let length = u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]) as usize;
        if length > MAX_GREETING {
            return Err(FrameError::TooLong(length).into());
        }
        bytes.resize(frame::HEADER_LEN + length, 0);
        (&self.stream).read_exact(&mut bytes[frame::HEADER_LEN..])?;
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        Ok(decoder.decode()?.ok_or(FrameError::Truncated)?)
    }
}

impl Connection {
    /// Nothing if there was none, or it came too late.
    pub(super) fn next_request(&self, desk: &Desk) -> Result<Option<Vec<u8>>, Broken> {
        let mut reading = locked(&self.reading);
        let mut header = [0; post::HEADER_LEN];
        reading.read_exact(&mut header)?;
        let header = Header::parse(header)?;
        let mut message = vec![0; header.length];
        reading.read_exact(&mut message)?;
        // Counted in the order in which they were read.
        let in_time = desk.arrived(self.turn, header)?;
        // An empty one only says what was seen.
        Ok((in_time && !message.is_empty()).then_some(message))
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
