//! The stream of what happens in the guest.

use osvm_wire::message::Event;

use super::AgentError;
use super::exchange::{Exchange, Receiver};

/// Events as they come.
pub struct Events {
    incoming: Receiver,
    /// Held because the agent takes the end of our side for a good-bye.
    _open: super::exchange::Sender,
}

impl Events {
    pub(super) fn new(exchange: Exchange) -> Self {
        Self { incoming: exchange.incoming, _open: exchange.outgoing }
    }

    /// The next event; `None` when the link has hung up. Safe to cancel.
    pub async fn next(&mut self) -> Result<Option<Event>, AgentError> {
        self.incoming.receive().await
    }
}
