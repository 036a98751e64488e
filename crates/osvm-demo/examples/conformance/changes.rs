//! What changes while the server runs, and who is told: whoever listens (2026-07-28), or the session that had it changed.

use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::{
    Peer, ServiceError, SubscriptionContext, SubscriptionSendError, SubscriptionSink,
};
use rmcp::{ErrorData, RoleServer};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::resources::WATCHED;

/// How many changes a slow listener may be behind.
const BEHIND: usize = 64;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Change {
    Tools,
    Prompts,
    Resource,
}

#[derive(Clone)]
pub(crate) struct Changes(broadcast::Sender<Change>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::channel(BEHIND).0)
    }
}

impl Changes {
    /// Tells all that listen.
    pub(crate) fn tell(&self, change: Change) {
        // An error says that nobody does.
        let _ = self.0.send(change);
    }

    /// Passes on what the listener wants to know, until it has had enough.
    pub(crate) async fn listen(&self, context: &SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.0.subscribe();
        loop {
            let change = tokio::select! {
                () = context.cancelled() => return Ok(()),
                change = changes.recv() => change,
            };
            let told = match change {
                Ok(change) => pass_on(change, context.sink()).await,
                Err(RecvError::Lagged(_)) => continue,
                Err(RecvError::Closed) => return Ok(()),
            };
            match told {
                Ok(()) | Err(SubscriptionSendError::NotificationNotAccepted(_)) => {}
                Err(error) => return Err(ErrorData::internal_error(error.to_string(), None)),
            }
        }
    }
}

async fn pass_on(change: Change, sink: &SubscriptionSink) -> Result<(), SubscriptionSendError> {
    match change {
        Change::Tools => sink.notify_tool_list_changed().await,
        Change::Prompts => sink.notify_prompt_list_changed().await,
        Change::Resource => sink.notify_resource_updated(WATCHED).await,
    }
}

/// As sessions were told before there was anything to listen to.
pub(crate) async fn tell_session(
    change: Change,
    session: &Peer<RoleServer>,
) -> Result<(), ServiceError> {
    match change {
        Change::Tools => session.notify_tool_list_changed().await,
        Change::Prompts => session.notify_prompt_list_changed().await,
        Change::Resource => {
            let updated = ResourceUpdatedNotificationParam::new(WATCHED);
            session.notify_resource_updated(updated).await
        }
    }
}
