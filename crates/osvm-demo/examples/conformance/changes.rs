//! What changes while the server runs, and who is told: whoever listens (2026-07-28), or the session that had it changed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use rmcp::model::ResourceUpdatedNotificationParam;
use rmcp::service::{
    Peer, ServiceError, SubscriptionContext, SubscriptionSendError, SubscriptionSink,
};
use rmcp::{ErrorData, RoleServer};
use tokio::sync::broadcast::{self, Receiver, Sender, error::RecvError};

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
pub(crate) struct Changes {
    sender: Sender<Change>,
    /// Of those who are told that they listen, and do so only afterwards.
    announced: Arc<Mutex<VecDeque<Receiver<Change>>>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { sender: broadcast::channel(BEHIND).0, announced: Arc::default() }
    }
}

impl Changes {
    /// Tells all that listen.
    pub(crate) fn tell(&self, change: Change) {
        // An error says that nobody does.
        let _ = self.sender.send(change);
    }

    /// Notes what changes from now on, for one who is about to listen.
    pub(crate) fn announce(&self) {
        self.announced().push_back(self.sender.subscribe());
    }

    /// What was noted for one who was announced. It makes no difference for whom: the oldest note has it all.
    fn noted(&self) -> Receiver<Change> {
        let noted = self.announced().pop_front();
        noted.unwrap_or_else(|| self.sender.subscribe())
    }

    fn announced(&self) -> MutexGuard<'_, VecDeque<Receiver<Change>>> {
        self.announced.lock().expect("nothing panics while holding it")
    }

    /// Passes on what the listener wants to know, until it has had enough.
    pub(crate) async fn listen(&self, context: &SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.noted();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_before_one_who_was_announced_listens_is_noted() {
        let changes = Changes::default();
        changes.tell(Change::Prompts);
        changes.announce();
        changes.tell(Change::Tools);
        let mut noted = changes.noted();
        assert!(matches!(noted.try_recv(), Ok(Change::Tools)));
        assert!(noted.try_recv().is_err());
    }
}
