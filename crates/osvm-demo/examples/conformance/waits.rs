//! Calls that end only when their client has had enough of them, and who is told that they did.

use std::sync::Arc;

use rmcp::RoleServer;
use rmcp::model::ProgressNotificationParam;
use rmcp::service::{RequestContext, ServiceError};
use tokio::sync::Semaphore;

/// The tools, neither of which answers unless a call is cancelled.
#[cfg(test)]
pub(crate) const TOOLS: [&str; 2] = ["test_wait", "test_cancelled"];

/// Counts the calls that have ended and were not yet told of.
#[derive(Clone)]
pub(crate) struct Waits(Arc<Semaphore>);

impl Default for Waits {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }
}

impl Waits {
    /// Waits until the client has had enough, which knows by one notification of progress that the call waits.
    pub(crate) async fn wait(
        &self,
        context: &RequestContext<RoleServer>,
    ) -> Result<String, ServiceError> {
        let _told = Ended(self);
        if let Some(token) = context.meta.get_progress_token() {
            let begun = ProgressNotificationParam::new(token, 1.0);
            context.peer.notify_progress(begun).await?;
        }
        context.ct.cancelled().await;
        Ok("The client had enough.".to_owned())
    }

    /// Answers as soon as a call has ended, one answer for each.
    pub(crate) async fn ended(&self) -> String {
        match self.0.acquire().await {
            Ok(ended) => ended.forget(),
            Err(closed) => return closed.to_string(),
        }
        "A call was cancelled.".to_owned()
    }
}

/// Tells when it goes: that the client has had enough may also end the call's work where it stands.
struct Ended<'a>(&'a Waits);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.0.add_permits(1);
    }
}
