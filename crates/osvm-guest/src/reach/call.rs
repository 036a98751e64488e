//! How a stream to the host begins: one message, and its answer, or no more than that.

use std::io;
use std::time::Duration;

use osvm_wire::frame::Message;
use thiserror::Error;

use super::host::{Host, HostStream};
use crate::talk::{StreamError, Talk};

/// How long an answer may take: as long as a connection may, and a little longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(75);

/// Why there was no answer.
#[derive(Debug, Error)]
pub(super) enum CallError {
    #[error("open a stream to the host")]
    Open(#[source] io::Error),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("host ended the stream without an answer")]
    Ended,
    #[error("host did not answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent,
}

/// Asks on a stream of its own, which goes on after the answer.
pub(super) async fn call<A: Message>(
    host: &Host,
    port: u32,
    question: &impl Message,
) -> Result<(A, Talk<HostStream>), CallError> {
    let mut talk = Talk::new(host.open(port).await.map_err(CallError::Open)?);
    talk.outgoing.send(question).await?;
    match tokio::time::timeout(ANSWER_WITHIN, talk.incoming.receive()).await {
        Ok(answer) => Ok((answer?.ok_or(CallError::Ended)?, talk)),
        Err(_) => Err(CallError::Silent),
    }
}

/// Says one thing on a stream of its own.
pub(crate) async fn tell<M: Message>(
    host: &Host,
    port: u32,
    message: &M,
) -> Result<(), StreamError> {
    let stream = host.open(port).await.map_err(StreamError::Write)?;
    let mut talk = Talk::new(stream);
    talk.outgoing.send(message).await?;
    talk.outgoing.end().await?;
    // The host lets go when it has read it.
    let _: Option<M> = talk.incoming.receive().await?;
    Ok(())
}
