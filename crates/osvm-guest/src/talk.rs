//! A stream as messages.

use std::io;

use osvm_wire::frame::{self, Decoder, FrameError, Message};
use osvm_wire::message::Reply;
use osvm_wire::session::SessionError;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Chain, ReadHalf, WriteHalf};

/// Both directions of a stream.
pub(crate) struct Talk<S> {
    pub(crate) incoming: Receiver<S>,
    pub(crate) outgoing: Sender<S>,
}

pub(crate) struct Receiver<S> {
    stream: ReadHalf<S>,
    decoder: Decoder,
}

pub(crate) struct Sender<S> {
    stream: WriteHalf<S>,
}

/// What follows a stream's messages.
pub(crate) type Bytes<S> = Chain<io::Cursor<Vec<u8>>, ReadHalf<S>>;

impl<S: Stream> Talk<S> {
    pub(crate) fn new(stream: S) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            incoming: Receiver { stream: read, decoder: Decoder::default() },
            outgoing: Sender { stream: write },
        }
    }

    /// The last thing said on a stream.
    pub(crate) async fn answer(&mut self, reply: &Reply) -> Result<(), StreamError> {
        self.outgoing.send(reply).await?;
        self.outgoing.end().await
    }
}

impl<S: Stream> Receiver<S> {
    /// The next message, `None` at the end. Safe to cancel.
    pub(crate) async fn receive<M: Message>(&mut self) -> Result<Option<M>, StreamError> {
        let mut buffer = [0; 8 * 1024];
        loop {
            if let Some(message) = self.decoder.decode()? {
                return Ok(Some(message));
            }
            match self.stream.read(&mut buffer).await.map_err(StreamError::Read)? {
                0 => return Ok(None),
                count => self.decoder.push(&buffer[..count]),
            }
        }
    }
}

impl<S: Stream> Receiver<S> {
    /// The stream's bytes after its messages: those that have arrived already, then the rest.
    pub(crate) fn into_bytes(self) -> Bytes<S> {
        io::Cursor::new(self.decoder.into_rest()).chain(self.stream)
    }
}

impl<S: Stream> Sender<S> {
    pub(crate) fn into_bytes(self) -> WriteHalf<S> {
        self.stream
    }

    /// Not safe to cancel: the stream must be dropped then.
    pub(crate) async fn send<M: Message>(&mut self, message: &M) -> Result<(), StreamError> {
        let frame = frame::encode(message)?;
        self.stream.write_all(&frame).await.map_err(StreamError::Write)?;
        self.stream.flush().await.map_err(StreamError::Write)
    }

    /// Nothing more will be said.
    pub(crate) async fn end(&mut self) -> Result<(), StreamError> {
        self.stream.shutdown().await.map_err(StreamError::Write)
    }
}

/// A stream from the host, or to it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// Why a stream was dropped.
#[derive(Debug, Error)]
pub(crate) enum StreamError {
    #[error("read from the host")]
    Read(#[source] io::Error),
    #[error("write to the host")]
    Write(#[source] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Session(#[from] SessionError),
}
