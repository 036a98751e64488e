//! Whom a session is with: one server, or all of them.

use std::sync::Arc;

use super::Gateway;
use super::conversation::{Conversation, Place};
use super::hub::Hub;
use super::outlet::Outlet;
use super::refusal::Refusal;
use super::sender::Visit;
use crate::envelope::Envelope;

pub(super) enum Party {
    One(Conversation, Arc<Outlet>),
    All(Hub),
}

impl Party {
    /// For a client that begins with `initialize`.
    pub(super) async fn open(
        gateway: &Gateway,
        visit: Visit<'_>,
        initialize: &Envelope<'_>,
    ) -> Result<Self, Refusal> {
        let Some(server) = visit.server else {
            return Ok(Self::All(Hub::new(visit.sender, initialize)));
        };
        let stream = gateway.open(server, visit.sender.on_behalf(server, false)).await?;
        let standalone = Outlet::new(0);
        let place = Place::Alone(Arc::clone(&standalone));
        let conversation = Conversation::with(stream, &gateway.bounds.of_servers, place);
        Ok(Self::One(conversation, standalone))
    }

    pub(super) async fn ask(
        &self,
        gateway: &Gateway,
        message: &Envelope<'_>,
    ) -> Result<Arc<Outlet>, Refusal> {
        match self {
            Self::One(conversation, _) => conversation.ask(message),
            Self::All(hub) => hub.ask(gateway, message).await,
        }
    }

    /// What needs no answer. A server that is gone has been answered for.
    pub(super) fn tell(&self, message: &Envelope<'_>) {
        match self {
            Self::One(conversation, _) => conversation.tell(message),
            Self::All(hub) => hub.tell(message),
        }
    }

    /// The stream of what belongs to no request.
    pub(super) fn standalone(&self) -> &Arc<Outlet> {
        match self {
            Self::One(_, standalone) => standalone,
            Self::All(hub) => hub.standalone(),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        match self {
            Self::One(conversation, _) => conversation.is_over(),
            Self::All(_) => false,
        }
    }

    pub(super) fn end(&self) {
        match self {
            Self::One(conversation, _) => conversation.end(),
            Self::All(hub) => hub.end(),
        }
    }
}
