//! Carries a session's bytes over one stream after another, until the session is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use osvm_wire::message::{Attach, Reply, Request, SessionId};

use super::AgentError;
use super::dial::{Dial, Follow};
use super::exchange::{self, Exchange, Receiver, Sender};
use super::session::SessionLost;
use super::shared::Shared;
use crate::breaks::Breaks;
use crate::drivers::chain;

/// A stream can break while its link stays whole; so the same link is tried again, at this pace.
const RETRY_EVERY: Duration = Duration::from_millis(500);

/// What is left of the patience with an agent that hangs up on a session, over a link that holds. An agent may
/// be slow, but that it does not do; and when it ends, the VM does.
#[derive(Default)]
struct Patience {
    breaks: Breaks,
    in_vain_since: Option<Instant>,
}

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
    let mut patience = Patience::default();
    while let Carried::Broken = carry(shared, exchange).await? {
        tracing::debug!(session = %id, "session's stream broke");
        match reattach(id, shared, &mut links, &mut patience).await? {
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
    patience: &mut Patience,
) -> Result<Option<Exchange>, AgentError> {
    while !shared.is_abandoned() {
        if links.has_changed() {
            *patience = Patience::default();
        }
        let Some(link) = links.current()? else {
            if shared.has_input() {
                links.want();
            }
            tokio::select! {
                changed = links.changed() => changed?,
                () = shared.changed() => {}
            }
            continue;
        };
        match attach(id, shared, link.as_ref()).await {
            Ok(exchange) => return patience.broken_once_more().map(|()| Some(exchange)),
            Err(AgentError::Full(_)) => {}
            Err(error) if error.is_hang_up() => patience.in_vain_once_more()?,
            Err(error) => return Err(error),
        }
        tokio::select! {
            changed = links.changed() => {
                changed?;
                *patience = Patience::default();
            }
            () = shared.changed() => {}
            () = tokio::time::sleep(RETRY_EVERY) => {}
        }
    }
    Ok(None)
}

impl Patience {
    /// How long attaching may fail in a row.
    const IN_VAIN: Duration = Duration::from_secs(30);

    /// A stream broke, and there is another.
    fn broken_once_more(&mut self) -> Result<(), AgentError> {
        self.in_vain_since = None;
        unless(self.breaks.are_too_many(Instant::now()))
    }

    /// There was no other.
    fn in_vain_once_more(&mut self) -> Result<(), AgentError> {
        let since = self.in_vain_since.get_or_insert_with(Instant::now);
        unless(since.elapsed() > Self::IN_VAIN)
    }
}

fn unless(it_is_over: bool) -> Result<(), AgentError> {
    if it_is_over { Err(AgentError::HangsUp) } else { Ok(()) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_with_an_agent_that_is_not_there_ends() {
        let mut patience = Patience::default();
        assert!((0..1000).all(|_| patience.in_vain_once_more().is_ok()));
        patience.in_vain_since = Instant::now().checked_sub(2 * Patience::IN_VAIN);
        assert!(matches!(patience.in_vain_once_more(), Err(AgentError::HangsUp)));
        assert!(patience.broken_once_more().is_ok(), "it came back");
        assert!(patience.in_vain_once_more().is_ok(), "and went anew");
    }
}
