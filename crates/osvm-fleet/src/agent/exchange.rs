//! One stream to the agent: messages written to it and read from it.

use std::io;

use osvm_wire::AGENT_PORT;
use osvm_wire::frame::{self, Decoder, Message};
use osvm_wire::message::{Reply, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::AgentError;
use super::dial::{AgentStream, Dial};

/// A stream on which a question was asked and answered.
pub(super) struct Exchange {
    pub(super) incoming: Receiver,
    pub(super) outgoing: Sender,
}

pub(super) struct Receiver {
    stream: ReadHalf<Box<dyn AgentStream>>,
    decoder: Decoder,
}

pub(super) struct Sender {
    stream: WriteHalf<Box<dyn AgentStream>>,
}

/// Opens a stream to the agent, asks, and waits for the answer. A refusal is an error.
pub(super) async fn ask(
    link: &dyn Dial,
    request: &Request,
) -> Result<(Reply, Exchange), AgentError> {
    let stream = link.dial(AGENT_PORT).await.map_err(not_connected)?;
    let mut exchange = Exchange::new(stream);
    exchange.outgoing.send(request).await?;
    match exchange.incoming.receive().await? {
        Some(Reply::Refused(refusal)) => Err(refusal.into()),
        Some(reply) => Ok((reply, exchange)),
        None => Err(AgentError::HungUp),
    }
}

fn not_connected(error: io::Error) -> AgentError {
    match error.kind() {
        io::ErrorKind::ResourceBusy => AgentError::Full(error),
        _ => AgentError::Connect(error),
    }
}

impl Exchange {
    pub(super) fn new(stream: Box<dyn AgentStream>) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self {
            incoming: Receiver { stream: read, decoder: Decoder::default() },
            outgoing: Sender { stream: write },
        }
    }
}

impl Receiver {
    /// The next message, `None` when the stream has ended. Safe to cancel.
    pub(super) async fn receive<M: Message>(&mut self) -> Result<Option<M>, AgentError> {
        let mut buffer = [0; 8 * 1024];
        loop {
            if let Some(message) = self.decoder.decode()? {
                return Ok(Some(message));
            }
            match self.stream.read(&mut buffer).await.map_err(AgentError::Talk)? {
                0 => return Ok(None),
                count => self.decoder.push(&buffer[..count]),
            }
        }
    }
}

impl Sender {
    /// Not safe to cancel: a frame may be cut off, so the stream has to be dropped then.
    pub(super) async fn send<M: Message>(&mut self, message: &M) -> Result<(), AgentError> {
        let frame = frame::encode(message)?;
        self.stream.write_all(&frame).await.map_err(AgentError::Talk)?;
        self.stream.flush().await.map_err(AgentError::Talk)
    }
}
