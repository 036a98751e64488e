//! One connection: how it begins, and the messages on it both ways.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::Duration;

use osvm_wire::frame::{self, Decoder, FrameError};
use osvm_wire::grant::{FolderAnswer, OpenFolder};
use osvm_wire::post::{self, Header, PostError};
use thiserror::Error;

use super::desk::{Desk, Turn};
use crate::folders::lent::Lent;

/// Whoever connects says at once what for.
const GREETING: Duration = Duration::from_secs(10);

/// Largest first frame: it holds numbers only.
const MAX_GREETING: usize = 256;

pub(super) struct Connection<'a> {
    pub(super) stream: UnixStream,
    pub(super) turn: Turn,
    pub(super) lent: &'a Lent,
    pub(super) desk: &'a Desk,
    pub(super) queue: SyncSender<Vec<u8>>,
}

/// Why a connection is of no more use. The folder is lent on.
#[derive(Debug, Error)]
enum Broken {
    #[error("connection: {0}")]
    Stream(#[from] io::Error),
    #[error("connection: {0}")]
    Frame(#[from] FrameError),
    #[error("connection: {0}")]
    Post(#[from] PostError),
}

impl Connection<'_> {
    pub(super) fn serve(&self) {
        match self.talk() {
            Err(Broken::Stream(error)) if is_hang_up(&error) => {}
            Err(broken) => tracing::warn!("{broken}"),
            Ok(()) => {}
        }
        self.desk.end_turn(self.turn);
    }

    fn talk(&self) -> Result<(), Broken> {
        if !self.greet()? {
            return Ok(());
        }
        thread::scope(|scope| {
            scope.spawn(|| self.send());
            let ended = self.receive();
            self.desk.end_turn(self.turn);
            ended
        })
    }

    /// Whether they go on from where the last connection ended.
    fn greet(&self) -> Result<bool, Broken> {
        self.stream.set_read_timeout(Some(GREETING))?;
        let opening = self.opening()?;
        self.stream.set_read_timeout(None)?;
        let answer = match self.desk.resume(self.turn, opening.seen) {
            Ok(None) => return Ok(false),
            Ok(Some(seen)) => FolderAnswer::Opened { seen },
            Err(error) => FolderAnswer::Refused { why: error.to_string() },
        };
        self.lent.show_as(opening.uid, opening.gid);
        (&self.stream).write_all(&frame::encode(&answer)?)?;
        Ok(matches!(answer, FolderAnswer::Opened { .. }))
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

    fn receive(&self) -> Result<(), Broken> {
        loop {
            let mut header = [0; post::HEADER_LEN];
            (&self.stream).read_exact(&mut header)?;
            let header = Header::parse(header)?;
            let mut message = vec![0; header.length];
            (&self.stream).read_exact(&mut message)?;
            if !self.desk.arrived(self.turn, header)? {
                return Ok(());
            }
            // An empty one only says what was seen.
            if !message.is_empty() && self.queue.send(message).is_err() {
                return Ok(());
            }
        }
    }

    fn send(&self) {
        while let Some((header, message)) = self.desk.next(self.turn) {
            let sent = (&self.stream).write_all(&header);
            if sent.and_then(|()| (&self.stream).write_all(&message)).is_err() {
                // Whoever reads hears of it too.
                return;
            }
        }
    }
}

fn is_hang_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}
