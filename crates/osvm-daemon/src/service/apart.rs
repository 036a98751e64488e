//! Calls of tools that have a VM of their own for each: made as `osvm mcp call` makes them, whoever asks for them.

use std::sync::Arc;
use std::time::Duration;

use osvm_mcp::Unmade;
use osvm_spec::{Overrides, Secrets, ServerName};
use serde_json::value::RawValue;

use super::Daemon;
use super::place::Place;
use super::servers;
use crate::api::{ApiError, CallRequest, ErrorKind};

/// What each such VM of one client's is made of.
pub(super) struct Apart {
    pub(super) daemon: Arc<Daemon>,
    /// Also where the client's own VM has another name.
    pub(super) server: ServerName,
    pub(super) overrides: Overrides,
    pub(super) secrets: Secrets,
}

impl Apart {
    /// One call, with the VM's start. The VM ends with it, also when this is dropped.
    pub(super) async fn make(
        &self,
        tool: &str,
        arguments: Box<RawValue>,
        place: &Place,
        limit: impl FnOnce(Duration) -> Duration,
    ) -> Result<Box<RawValue>, Unmade> {
        let request = CallRequest {
            tool: tool.to_owned(),
            arguments,
            timeout_seconds: None,
            confirmed: true,
            overrides: self.overrides.clone(),
            secrets: self.secrets.clone(),
        };
        let made = servers::make(&self.daemon, &self.server, request, place, limit).await;
        made.map(|outcome| outcome.result).map_err(unmade)
    }
}

fn unmade(ApiError { kind, message, .. }: ApiError) -> Unmade {
    match kind {
        ErrorKind::ToolError => Unmade::Misfit(message),
        ErrorKind::Refused => Unmade::Refused(message),
        ErrorKind::TimedOut => Unmade::TimedOut(message),
        ErrorKind::Failed | ErrorKind::Usage | ErrorKind::NoSuch | ErrorKind::Unavailable => {
            Unmade::Failed(message)
        }
    }
}
