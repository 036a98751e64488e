//! The VM that serves a request: the one that runs, a new one, or one for this request alone.

use std::sync::Arc;
use std::time::Duration;

use osvm_fleet::{Fleet, Visit, Vm};
use osvm_fleet::{Plan, StartedBy};
use osvm_mcp::Client;
use osvm_spec::{Isolation, Overrides, Secrets, Server, ServerName};

use super::Daemon;
use super::greet::McpGreeter;
use crate::api::ApiError;

/// A ready VM, in use until this is dropped.
pub(super) struct Guest {
    pub(super) vm: Arc<Vm<Client>>,
    pub(super) visit: Visit,
    /// Present when the VM ends with the request.
    alone: Option<Alone>,
}

/// What a VM is wanted for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Need<'t> {
    Anything,
    /// A call of this tool, in a VM of its own where the configuration says so.
    Tool(&'t str),
    /// A call of this tool in a VM of its own, whatever the configuration says by now.
    Apart(&'t str),
}

/// Stops its VM when dropped, whatever became of the request.
pub(super) struct Alone {
    fleet: Arc<Fleet<McpGreeter>>,
    pub(super) name: ServerName,
}

impl Daemon {
    /// The VM for one request to a server. A name that isn't registered is served when a VM of that
    /// name runs.
    pub(super) async fn guest(
        &self,
        name: &ServerName,
        over: &Overrides,
        secrets: Secrets,
        need: Need<'_>,
    ) -> Result<(Guest, Server), ApiError> {
        let config = self.config()?;
        let server = match self.fleet.get(name).filter(|vm| !vm.state().is_end()) {
            Some(_) => self.resolve_in(&config, name, over)?,
            None => self.registered(&config, name, over)?,
        };
        let (tool, is_apart) = match need {
            Need::Anything => (None, false),
            Need::Tool(tool) => (Some(tool), false),
            Need::Apart(tool) => (Some(tool), true),
        };
        let isolation = tool.map_or(server.isolation, |tool| server.isolation_of(tool));
        let own_hosts = tool.and_then(|tool| server.hosts_of(tool));
        let mut plan = self.plan(server.clone(), secrets, StartedBy::Auto)?;
        // What a VM may reach is fixed when it starts, so a tool with hosts of its own has one of its own.
        plan.once = is_apart || isolation == Isolation::Ephemeral || own_hosts.is_some();
        if let Some(hosts) = own_hosts {
            plan.hosts = hosts.clone();
        }
        let alone = plan.once.then(|| self.set_apart(&mut plan));
        let vm = self.fleet.ensure(plan).await?;
        let visit = vm.visit();
        Ok((Guest { vm, visit, alone }, server))
    }

    /// Gives the plan a name that no other VM has.
    pub(super) fn set_apart(&self, plan: &mut Plan) -> Alone {
        let suffix = format!(".{}", osvm_fleet::VmId::random());
        let room = ServerName::MAX - suffix.len();
        let stem: String = plan.name.as_str().chars().take(room).collect();
        plan.server.get_or_insert_with(|| plan.name.clone());
        plan.name = format!("{stem}{suffix}").parse().expect("a name with more of its characters");
        Alone { fleet: Arc::clone(&self.fleet), name: plan.name.clone() }
    }
}

impl Guest {
    /// Whether its VM serves one request alone.
    pub(super) fn is_alone(&self) -> bool {
        self.alone.is_some()
    }

    /// The MCP conversation with the VM's server.
    pub(super) async fn client(
        &self,
        greeter: &McpGreeter,
        limit: Duration,
    ) -> Result<Arc<Client>, ApiError> {
        Ok(self.vm.converse(greeter, limit).await?)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let (fleet, name) = (Arc::clone(&self.fleet), self.name.clone());
        tokio::spawn(async move { fleet.stop(&name).await });
    }
}
