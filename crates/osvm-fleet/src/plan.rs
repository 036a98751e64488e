//! What a launch was asked to make: one server, fully resolved.

use std::path::PathBuf;
use std::time::Duration;

use osvm_image::Image;
use osvm_spec::{
    CpuTemplate, Digest, Folder, Hosts, Hypervisor, Resources, Secrets, ServerName, TemplateLevel,
};
use osvm_wire::message::{SessionId, Spawn};
use serde::{Deserialize, Serialize};

/// Everything the fleet needs to start one server's VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub name: ServerName,
    pub resources: Resources,
    pub hypervisor: Hypervisor,
    #[serde(default)]
    pub cpu_template: CpuTemplate,
    #[serde(default)]
    pub template: TemplateLevel,
    pub kernel: PathBuf,
    pub rootfs: Rootfs,
    #[serde(default)]
    pub purpose: Purpose,
    /// Command of the server; the image's own when empty.
    pub command: Vec<String>,
    /// Words behind it.
    #[serde(default)]
    pub args: Vec<String>,
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
    /// Under which name the user has accepted its image and its tools; none where anything will do.
    #[serde(default)]
    pub locked: Option<ServerName>,
    /// What the server tries beyond its grants is noted.
    #[serde(default)]
    pub record: bool,
    /// The server whose policy holds, where the VM has another name.
    #[serde(default)]
    pub server: Option<ServerName>,
    /// It serves one request, and others like it are to be expected.
    #[serde(default)]
    pub once: bool,
}

/// What a guest's root file system is made from. Its text is a path or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Rootfs {
    /// An image of the store.
    Image(Digest),
    /// A folder or an archive, which is imported first.
    Path(PathBuf),
}

/// What a VM is for, and so when it is ready.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To run a server: ready when it answered MCP.
    #[default]
    Serve,
    /// To run commands: ready when the agent answered.
    Work,
}

impl Plan {
    /// What starts its server in a guest of that image, without secrets.
    pub(crate) fn server_in(&self, image: &Image, session: SessionId) -> Spawn {
        let argv = match self.command.is_empty() {
            true => image.command(&self.args),
            false => [&self.command[..], &self.args].concat(),
        };
        Spawn {
            session,
            argv,
            env: image.env.iter().chain(&self.env).cloned().collect(),
            cwd: self.working_dir.clone().or_else(|| image.workdir.clone()),
            user: self.user.clone().or_else(|| image.user.clone()),
            ..Spawn::default()
        }
    }

    /// Whose VM it is: many may serve one server, each under a name of its own.
    pub fn server(&self) -> &ServerName {
        self.server.as_ref().unwrap_or(&self.name)
    }

    /// Whether it serves one task, and ends with it.
    pub(crate) fn is_short(&self) -> bool {
        self.once || self.record || self.server.is_some() || self.purpose == Purpose::Work
    }

    /// Whether the guest has something to say about hosts.
    pub(crate) fn has_hosts_stream(&self) -> bool {
        self.record || !self.hosts.is_empty()
    }
}

#[cfg(test)]
impl Plan {
    /// Of a server that is given nothing.
    pub(crate) fn sample(template: TemplateLevel) -> Self {
        Self {
            name: "a".parse().unwrap(),
            resources: Resources::default(),
            hypervisor: Hypervisor::Auto,
            cpu_template: CpuTemplate::None,
            template,
            kernel: "/vmlinux".into(),
            rootfs: Rootfs::Path("/base.cpio".into()),
            purpose: Purpose::Serve,
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            secrets: Secrets::default(),
            hosts: Hosts::default(),
            folders: Vec::new(),
            user: None,
            working_dir: None,
            start_timeout: Duration::from_secs(600),
            started_by: StartedBy::User,
            locked: None,
            record: false,
            server: None,
            once: false,
        }
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
