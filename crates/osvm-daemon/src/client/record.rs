//! The command's end of a recorded launch: one answer that lasts as long as the VM.

use tokio::io::{AsyncBufReadExt, BufReader, Lines};

use super::{Body, Client, Result, broken, connection, daemon_gone, path, unreadable};
use crate::api::{ApiError, ErrorKind, LaunchEvent, LaunchRequest, VmStatus};
use crate::policy::Policy;

/// A VM whose server is recorded. Dropped, it ends the VM.
pub struct Recording {
    client: Client,
    lines: Lines<BufReader<Body>>,
    /// The VM when it had become ready, or why it has not.
    pub launched: std::result::Result<VmStatus, ApiError>,
    policy: Option<Policy>,
}

impl Client {
    /// Starts a server's VM to record what the server tries; `request` says so. Returns when the VM is ready or has
    /// failed: a server may have tried much before it did.
    pub async fn record(
        &self,
        request: &LaunchRequest,
        mut on_state: impl FnMut(&str),
    ) -> Result<Recording> {
        let body = connection::request(&self.home, "POST", &path("/vms"), request).await?;
        let mut lines = BufReader::new(body).lines();
        loop {
            let launched = match next(&mut lines).await? {
                LaunchEvent::State { state, .. } => {
                    on_state(&state);
                    continue;
                }
                LaunchEvent::Ready { vm } => Ok(*vm),
                LaunchEvent::Failed { error } => Err(error),
                LaunchEvent::Recorded { .. } => return Err(daemon_gone()),
            };
            return Ok(Recording { client: self.clone(), lines, launched, policy: None });
        }
    }
}

impl Recording {
    /// Waits until the VM has ended. Safe to cancel.
    pub async fn ended(&mut self) -> Result<()> {
        while self.policy.is_none() {
            if let LaunchEvent::Recorded { policy } = next(&mut self.lines).await? {
                self.policy = Some(*policy);
            }
        }
        Ok(())
    }

    /// Ends the VM, and says what its server needed.
    pub async fn finish(mut self) -> Result<Policy> {
        if let (Ok(vm), None) = (&self.launched, &self.policy) {
            match self.client.stop(&vm.name).await {
                Err(error) if error.kind != ErrorKind::NoSuch => return Err(error),
                _ => {}
            }
        }
        self.ended().await?;
        self.policy.ok_or_else(daemon_gone)
    }
}

async fn next(lines: &mut Lines<BufReader<Body>>) -> Result<LaunchEvent> {
    let line = lines.next_line().await.map_err(|error| broken(&error))?.ok_or_else(daemon_gone)?;
    serde_json::from_str(&line).map_err(|error| unreadable(&error))
}
