//! Carries a session's bytes over one stream after another, until the session is over.

use std::sync::Arc;
use std::time::Duration;

use osvm_wire::message::{Attach, Reply, Request, SessionId};

use super::AgentError;
use super::dial::{Dial, Follow};
use super::exchange::{self, Exchange, Receiver, Sender};
use super::session::SessionLost;
use super::shared::Shared;
use crate::drivers::chain;

/// A stream can break while its link stays whole; so the same link is tried again, at this pace.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// What became of a stream.
enum Carried {
    /// The session needs no stream any more.
    Finished,
    /// The next stream may go on where this one broke.
    Broken,
}

/// Runs until the session is over, lost, or nobody holds a part of it.
pub(super) async fn run(id: SessionId, shared: Arc<Shared>, first: Exchange, links: Follow) {
    if let Err(error) = carry_on(id, &shared, first, links.clone()).await {
        let reason = chain(&error);
        if error.is_lie() {
            links.distrust(&reason);
        }
        tracing::debug!(session = %id, reason, "session was lost");
        shared.lose(SessionLost::because(reason));
    }
}

async fn carry_on(
    id: SessionId,
    shared: &Shared,
    first: Exchange,
    mut links: Follow,
) -> Result<(), AgentError> {
    let mut exchange = first;
    while let Carried::Broken = carry(shared, exchange).await? {
        tracing::debug!(session = %id, "session's stream broke");
        match reattach(id, shared, &mut links).await? {
            Some(next) => exchange = next,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// Both directions of one stream, until it breaks or the session is over.
async fn carry(shared: &Shared, exchange: Exchange) -> Result<Carried, AgentError> {
    let Exchange { mut incoming, mut outgoing } = exchange;
    let carried = tokio::select! {
        received = receive(shared, &mut incoming) => received,
        sent = send(shared, &mut outgoing) => sent,
    };
    match carried {
        _ if shared.is_over() || shared.is_abandoned() => Ok(Carried::Finished),
        Err(error) if error.is_hang_up() => Ok(Carried::Broken),
        other => other,
    }
}

async fn receive(shared: &Shared, incoming: &mut Receiver) -> Result<Carried, AgentError> {
    while let Some(frame) = incoming.receive().await? {
        shared.accept(frame)?;
    }
    Ok(Carried::Broken)
}

async fn send(shared: &Shared, outgoing: &mut Sender) -> Result<Carried, AgentError> {
    loop {
        // What was written before everybody lost interest is still sent.
        match shared.next_frame() {
            Some(frame) => outgoing.send(&frame).await?,
            None if shared.is_abandoned() => return Ok(Carried::Finished),
            None => shared.changed().await,
        }
    }
}

/// The session on a new stream; `None` if nobody wants it any more.
async fn reattach(
    id: SessionId,
    shared: &Shared,
    links: &mut Follow,
) -> Result<Option<Exchange>, AgentError> {
    while !shared.is_abandoned() {
        let link = links.current()?;
        match attach(id, shared, link.as_ref()).await {
            Ok(exchange) => return Ok(Some(exchange)),
            Err(AgentError::Full(_)) => {}
            Err(error) if error.is_hang_up() => {}
            Err(error) => return Err(error),
        }
        tokio::select! {
            changed = links.changed() => changed?,
            () = shared.changed() => {}
            () = tokio::time::sleep(RETRY_EVERY) => {}
        }
    }
    Ok(None)
}

async fn attach(id: SessionId, shared: &Shared, link: &dyn Dial) -> Result<Exchange, AgentError> {
    let attach = Attach { session: id, received: Some(shared.received()) };
    match exchange::ask(link, &Request::Attach(attach)).await? {
        (Reply::Attached(attached), exchange) => {
            osvm_wire::session::check(&attached)?;
            shared.reattached(&attached)?;
            Ok(exchange)
        }
        _ => Err(AgentError::OtherAnswer("attach")),
    }
}
