//! The configuration file: what is in it, and every check that needs nothing but its text.

mod error;
mod gateway;
mod oauth;
mod read;
mod rights;
mod section;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::Serialize;

pub use error::{ConfigError, Problem};
pub use gateway::{Gateway, Token, TokenDigest, TokenDigestError, TokenName, TokenNameError};
pub use oauth::{Grant, METADATA_PATH, Oauth, Scope, ScopeError, SecureUrl, SecureUrlError};
pub use read::{is_remote, is_variable};
pub use rights::Rights;
use section::nearest;

use crate::{
    CpuTemplate, FolderRule, HostRule, Hosts, Hypervisor, ImageRef, Isolation, Resources,
    SecretRule, ServerName, TemplateLevel, ToolPattern, looks_secret, tells_secret,
};

/// A whole file. [`Config::resolve`](crate::Config::resolve) makes it into one server's facts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    pub microvm: Microvm,
    pub builds: Builds,
    pub audit: Audit,
    pub gateway: Gateway,
    /// In the order of the file; no two have the same id.
    pub servers: Vec<Entry>,
}

/// `[microvm]`: what holds for every server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Microvm {
    /// When false nothing runs; it never means the host.
    pub enabled: bool,
    pub default_memory_mb: u32,
    pub default_vcpus: u8,
    /// Image of servers that name none. As written: see [`Places`](crate::Places).
    pub rootfs_path: Option<String>,
    pub kernel_path: Option<String>,
    pub hypervisor: Hypervisor,
    /// Of Firecracker; QEMU's guests see what it offers.
    pub cpu_template: CpuTemplate,
    /// Of servers that say nothing of it.
    pub template: TemplateLevel,
    /// `idle_suspend_minutes`: how long a VM that a call started keeps its memory with nothing to do; 0 is forever.
    pub idle_suspend: Option<Duration>,
    /// `idle_stop_minutes`: how long it lives on unused; 0 is forever.
    pub idle_stop: Option<Duration>,
    /// `suspended_stop_minutes`: the same of one that is suspended.
    pub suspended_stop: Option<Duration>,
    pub max_parallel_launches: Option<usize>,
    /// `launch_timeout_seconds`: until the server answered MCP.
    pub launch_timeout: Duration,
    /// `call_timeout_seconds`: until a tool answered.
    pub call_timeout: Duration,
}

/// `[builds]`: what images of packages, bundles, programs and projects are made on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Builds {
    /// `base_image`: with apt in it, in place of the host's own. As written: see [`Places`](crate::Places).
    pub base_image: Option<ImageRef>,
    /// `base_hosts`: where its packages are.
    pub base_hosts: Option<Vec<HostRule>>,
}

/// `[audit]`: what is kept of tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Audit {
    /// Whether arguments and results are kept, too, and not only their digests.
    pub bodies: bool,
    /// Whether a call that can't be recorded is refused.
    pub required: bool,
}

/// `[[servers]]`: one server as the user wrote it, under the file's own names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub id: ServerName,
    /// What people see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub url: Url,
    #[serde(rename = "isolation_mode")]
    pub isolation: Isolation,
    #[serde(skip_serializing_if = "is_true")]
    pub enabled: bool,
    /// Whether what it is made of, and its tools, must be what the user has accepted; only of an image of its own.
    #[serde(skip_serializing_if = "is_true")]
    pub locked: bool,
    /// Whether one process may serve clients of the gateway with several tokens.
    #[serde(skip_serializing_if = "is_false")]
    pub shared: bool,
    /// Program and arguments; empty for the image's entrypoint. What runs a package is that package's image.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A path as written: see [`Places`](crate::Places).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// User of the server process inside the guest: a name or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Absolute path inside the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    #[serde(skip_serializing_if = "Size::is_default")]
    pub microvm_config: Size,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateLevel>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Variables whose values come from elsewhere each time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretRule>,
    #[serde(flatten)]
    pub hosts: Hosts,
    #[serde(rename = "mount", skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<FolderRule>,
    /// The only tools that may be called; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_tools: Option<Vec<ToolPattern>>,
    /// Tools that may not be called, whatever is allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny_tools: Vec<ToolPattern>,
    /// Of all tools together, by all clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_minute: Option<NonZeroU32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Url {
    /// A process that speaks MCP on its standard streams.
    #[default]
    Stdio,
}

/// The part of a VM's size that the user fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Size {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u8>,
}

/// `[[servers.tools]]`: a tool that is kept apart more strictly than its server, reaches other hosts, or is held to
/// limits of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tool {
    pub name: String,
    pub isolation: Isolation,
    /// In place of the server's hosts.
    #[serde(flatten)]
    pub hosts: Option<Hosts>,
    #[serde(skip_serializing_if = "is_false")]
    pub denied: bool,
    /// Whether the user is asked before each call.
    #[serde(skip_serializing_if = "is_false")]
    pub confirm: bool,
    /// Longest result, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_result_bytes: Option<u64>,
    /// Longest call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// Calls by all clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_minute: Option<NonZeroU32>,
}

impl Config {
    /// Reads a file's text. `file` is what faults call it.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        read::file(text, file)
    }

    pub fn server(&self, name: &ServerName) -> Option<&Entry> {
        self.servers.iter().find(|entry| entry.id == *name)
    }

    /// The registered server whose name is most like this one.
    pub fn nearest(&self, name: &ServerName) -> Option<&ServerName> {
        let ids = self.servers.iter().map(|entry| &entry.id);
        let like = nearest(name.as_str(), ids.clone().map(ServerName::as_str))?;
        ids.into_iter().find(|id| id.as_str() == like)
    }
}

fn is_true(flag: &bool) -> bool {
    *flag
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Size {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Entry {
    /// In place of a value that is not shown.
    const HIDDEN: &str = "(hidden)";

    /// The server as it may be shown: a secret that was written down as a variable is hidden.
    #[must_use]
    pub fn shown(&self) -> Self {
        let hide = |(name, value): (&String, &String)| {
            let hidden = looks_secret(name) || tells_secret(value);
            (name.clone(), if hidden { Self::HIDDEN } else { value }.to_owned())
        };
        Self { env: self.env.iter().map(hide).collect(), ..self.clone() }
    }

    /// A server of that name with nothing else said about it.
    pub fn new(id: ServerName) -> Self {
        Self {
            id,
            name: None,
            url: Url::default(),
            isolation: Isolation::default(),
            enabled: true,
            locked: true,
            shared: false,
            command: Vec::new(),
            image: None,
            kernel: None,
            user: None,
            working_dir: None,
            microvm_config: Size::default(),
            template: None,
            env: BTreeMap::new(),
            secrets: Vec::new(),
            hosts: Hosts::default(),
            folders: Vec::new(),
            allow_tools: None,
            deny_tools: Vec::new(),
            calls_per_minute: None,
            tools: Vec::new(),
        }
    }
}

impl Default for Microvm {
    fn default() -> Self {
        let usual = Resources::default();
        Self {
            enabled: true,
            default_memory_mb: usual.memory_mib(),
            default_vcpus: usual.vcpus(),
            rootfs_path: None,
            kernel_path: None,
            hypervisor: Hypervisor::default(),
            cpu_template: CpuTemplate::default(),
            template: TemplateLevel::default(),
            idle_suspend: Some(Duration::from_secs(5 * 60)),
            idle_stop: Some(Duration::from_secs(15 * 60)),
            suspended_stop: Some(Duration::from_secs(24 * 60 * 60)),
            max_parallel_launches: None,
            launch_timeout: Duration::from_secs(120),
            call_timeout: Duration::from_secs(120),
        }
    }
}

#[cfg(test)]
mod tests;
