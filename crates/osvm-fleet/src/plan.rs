//! What a launch was asked to make: one server, fully resolved.

use std::path::PathBuf;
use std::time::Duration;

use osvm_spec::{CpuTemplate, Folder, Hosts, Hypervisor, Resources, Secrets, ServerName};
use serde::{Deserialize, Serialize};

/// Everything the fleet needs to start one server's VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub name: ServerName,
    pub resources: Resources,
    pub hypervisor: Hypervisor,
    #[serde(default)]
    pub cpu_template: CpuTemplate,
    pub kernel: PathBuf,
    /// A folder, or a `newc` archive.
    pub rootfs: PathBuf,
    /// Command of the server; the image's own when empty.
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    /// Added to the environment of server processes, and written to no file.
    #[serde(skip)]
    pub secrets: Secrets,
    /// What the guest may reach.
    #[serde(default)]
    pub hosts: Hosts,
    /// What it is lent.
    #[serde(default)]
    pub folders: Vec<Folder>,
    /// Name or number in the guest; the image's own when absent.
    pub user: Option<String>,
    pub working_dir: Option<String>,
    /// From the launch to the first MCP reply.
    pub start_timeout: Duration,
    pub started_by: StartedBy,
    /// What the server tries beyond its grants is noted.
    #[serde(default)]
    pub record: bool,
}

impl Plan {
    /// Whether the guest has something to say about hosts.
    pub(crate) fn has_hosts_stream(&self) -> bool {
        self.record || !self.hosts.is_empty()
    }
}

/// Who wanted the VM: only those that osvm started by itself are stopped when idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartedBy {
    /// Launched by name.
    User,
    /// Started because a call needed it.
    Auto,
}
