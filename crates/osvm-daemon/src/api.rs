//! The daemon's HTTP API: paths, requests, answers. Data only; the command and the daemon share it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use osvm_fleet::drivers::jail::Standing;
use osvm_mcp::OnBehalf;
use osvm_spec::{Digest, Folder, Hosts, Overrides, Secrets, ServerName};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::policy::Policy;

/// First part of every path; raised when an old client could misread an answer.
pub const ROOT: &str = "/v1";

/// Every path below [`ROOT`]. docs/openapi.json describes them.
pub mod path {
    pub const INFO: &str = "/info";
    pub const VMS: &str = "/vms";
    pub const VM: &str = "/vms/{name}";
    pub const SUSPEND: &str = "/vms/{name}/suspend";
    pub const LOGS: &str = "/vms/{name}/logs";
    pub const EXEC: &str = "/vms/{name}/exec";
    pub const CALL: &str = "/servers/{name}/call";
    pub const LIST: &str = "/servers/{name}/list";
    pub const LOOK: &str = "/servers/{name}/look";
    pub const RECALL: &str = "/recall";
    pub const RUN: &str = "/servers/{name}/run";
    pub const WORK: &str = "/work";
}

/// What an HTTP upgrade switches to: bytes of one session, framed as [`crate::stream`] says for
/// `exec` and `work`, unframed for `run`.
pub const UPGRADE: &str = "osvm-stream";

/// `GET /v1/info`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Info {
    pub version: String,
    pub pid: u32,
    pub home: PathBuf,
    pub runtime_dir: PathBuf,
}

/// `POST /v1/vms`: start a server's VM and wait until the server answered MCP. Answered by JSON
/// lines, each a [`LaunchEvent`]; hanging up before the last one cancels the launch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LaunchRequest {
    pub name: ServerName,
    #[serde(default)]
    pub overrides: Overrides,
    #[serde(default, skip_serializing_if = "Secrets::is_empty")]
    pub secrets: Secrets,
    /// In a VM of its own, which lives until it is stopped or the client hangs up, and in which what the server tries
    /// beyond its grants is noted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub record: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum LaunchEvent {
    /// The VM of that id entered this state. The first line of a launch that has begun.
    State {
        #[serde(skip_serializing_if = "Option::is_none", default)]
        id: Option<String>,
        state: String,
    },
    /// The last line of a launch that worked, unless it is recorded.
    Ready { vm: Box<VmStatus> },
    /// The last line of a launch that did not, unless it is recorded.
    Failed { error: ApiError },
    /// The last line of a recorded launch: the VM has ended.
    Recorded { policy: Box<Policy> },
}

/// One VM, as `GET /v1/vms` and `GET /v1/vms/{name}` show it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmStatus {
    pub name: ServerName,
    pub id: String,
    /// `preparing`, `booting`, `ready`, `suspended`, `stopping`, `stopped` or `failed`.
    pub state: String,
    /// Why, when the state is `failed`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cause: Option<String>,
    /// Why the server's last conversation ended, when the VM is well: its process ended, or it broke a
    /// limit and was ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fault: Option<String>,
    /// `firecracker 1.13.0`, `qemu 7.2.0`.
    pub vmm: String,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Whether it began as a clone of a template.
    #[serde(default)]
    pub cloned: bool,
    pub pid: Option<u32>,
    pub vcpus: u8,
    /// Memory asked for, in MiB.
    pub memory_mib: u32,
    /// Memory the host spends on this VM (proportional set size, VMM included), in bytes.
    pub memory_used_bytes: Option<u64>,
    /// What the VMM maps and is there, shared or not, in bytes.
    #[serde(default)]
    pub memory_resident_bytes: Option<u64>,
    /// Of that, what other processes map as well.
    #[serde(default)]
    pub memory_shared_bytes: Option<u64>,
    /// Of that, what nobody else maps.
    #[serde(default)]
    pub memory_unique_bytes: Option<u64>,
    /// Most that this can come to, whatever the guest does: its memory and the VMM's overhead.
    #[serde(default)]
    pub memory_limit_bytes: u64,
    /// Processor time the VMM has used, in seconds.
    pub cpu_seconds: Option<f64>,
    pub uptime_seconds: f64,
    /// Sessions of clients that are open now.
    pub sessions: u32,
    /// Tool calls answered since the VM started.
    pub calls: u64,
    /// `user` for a VM that was launched by name, `auto` for one that a call started.
    pub started_by: String,
    /// True when the server is osvm's own demonstration server.
    pub demo: bool,
    /// Command of the server process.
    pub command: Vec<String>,
    /// Digest of the image.
    pub image: String,
    /// What the server said it is.
    pub server: Option<ServerIdentity>,
    pub timings: Timings,
    pub run_dir: PathBuf,
    /// Hosts that the guest may reach.
    #[serde(default)]
    pub hosts: Hosts,
    /// Folders that it is lent.
    #[serde(default)]
    pub folders: Vec<Folder>,
    /// What stands between the VMM and the host, as seen when it had started.
    #[serde(default)]
    pub jail: Vec<Standing>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerIdentity {
    /// Servers of the modern era need not tell.
    pub name: Option<String>,
    pub version: Option<String>,
    /// The MCP revision agreed on.
    pub protocol: String,
}

/// Milliseconds since the launch was asked for.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Timings {
    /// The image and the initramfs were there.
    pub prepared_ms: Option<u64>,
    /// The guest agent answered.
    pub agent_ms: Option<u64>,
    /// The server answered its first MCP request.
    pub ready_ms: Option<u64>,
}

/// `POST /v1/servers/{name}/call`
#[derive(Debug, Serialize, Deserialize)]
pub struct CallRequest {
    pub tool: String,
    /// A JSON object.
    pub arguments: Box<RawValue>,
    /// Seconds until the call is given up; the configuration's when absent.
    #[serde(default)]
    pub timeout_seconds: Option<u64>,
    /// The user has said yes to it, where its server's policy wants that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirmed: bool,
    #[serde(default)]
    pub overrides: Overrides,
    #[serde(default, skip_serializing_if = "Secrets::is_empty")]
    pub secrets: Secrets,
}

/// The result as the server wrote it, byte for byte.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallAnswer {
    pub result: Box<RawValue>,
    pub is_error: bool,
}

/// `POST /v1/servers/{name}/list`: everything of one kind, all pages.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ListRequest {
    pub what: Listing,
    #[serde(default)]
    pub overrides: Overrides,
    #[serde(default, skip_serializing_if = "Secrets::is_empty")]
    pub secrets: Secrets,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listing {
    Tools,
    Resources,
    ResourceTemplates,
    Prompts,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ListAnswer {
    /// Each as the server wrote it.
    pub items: Vec<Box<RawValue>>,
}

/// `POST /v1/servers/{name}/look`: all its tools, from a VM of its own, whatever was accepted of it. Answered by a
/// [`ListAnswer`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LookRequest {
    /// An image of the store, in place of the server's.
    pub image: Digest,
    /// With no host, no secret's value and an empty folder in place of each.
    pub confined: bool,
    #[serde(default, skip_serializing_if = "Secrets::is_empty")]
    pub secrets: Secrets,
}

/// `POST /v1/servers/{name}/run`, upgraded: a session of the client's own. The body is this.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunRequest {
    #[serde(default)]
    pub overrides: Overrides,
    #[serde(default, skip_serializing_if = "Secrets::is_empty")]
    pub secrets: Secrets,
    /// Whom the gateway asks for; absent for a client of one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<OnBehalf>,
}

/// `POST /v1/recall`: what clients of these servers' would be told without any of them being started.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecallRequest {
    /// What each client says, from its beginning on. The last one is a request.
    pub lines: Vec<Box<RawValue>>,
    pub servers: Vec<Recalled>,
}

/// One of the servers, and what its session would be asked for with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recalled {
    pub name: ServerName,
    #[serde(default)]
    pub request: RunRequest,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecallAnswer {
    /// The message that answers the last line, of each server that need not be asked itself.
    pub answers: BTreeMap<ServerName, Box<RawValue>>,
}

/// `POST /v1/vms/{name}/exec`, upgraded: one command beside the server.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    pub argv: Vec<String>,
    /// Name or number; the server's user when absent.
    #[serde(default)]
    pub user: Option<String>,
}

/// `POST /v1/work`, upgraded: one command, as root, in a VM of its own that ends with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkRequest {
    /// An image of the store.
    pub image: Digest,
    pub argv: Vec<String>,
    /// In MiB.
    pub memory_mb: u64,
    pub vcpus: u64,
    #[serde(default)]
    pub hosts: Hosts,
}

/// `DELETE /v1/vms/{name}?id=ID`: the VM of that name, if it has that id.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StopQuery {
    /// Without one, whichever it is.
    #[serde(default)]
    pub id: Option<String>,
}

/// `GET /v1/vms/{name}/logs?source=server&follow=true`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogsQuery {
    #[serde(default)]
    pub source: LogSource,
    #[serde(default)]
    pub follow: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSource {
    /// The guest's serial console: kernel and agent.
    Console,
    /// The VMM's own messages.
    Vmm,
    /// What the fleet saw happen to the VM.
    Agent,
    /// Hosts that the guest asked for, and what was decided.
    Egress,
    /// The server's standard error.
    #[default]
    Server,
}

/// Body of every answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    pub kind: ErrorKind,
    pub message: String,
    /// What to type next.
    #[serde(default)]
    pub hints: Vec<String>,
}

/// What kind of failure; the command's exit code follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    Failed,
    Usage,
    NoSuch,
    Unavailable,
    ToolError,
    Refused,
    TimedOut,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_has_every_path_and_no_other() {
        #[derive(Deserialize)]
        struct Description {
            paths: BTreeMap<String, serde_json::Value>,
        }
        let text = include_str!("../../../docs/openapi.json");
        let described: Description = serde_json::from_str(text).unwrap();
        let mut served = [
            path::INFO,
            path::VMS,
            path::VM,
            path::SUSPEND,
            path::LOGS,
            path::EXEC,
            path::CALL,
            path::LIST,
            path::LOOK,
            path::RECALL,
            path::RUN,
            path::WORK,
        ];
        served.sort_unstable();
        assert_eq!(described.paths.keys().collect::<Vec<_>>(), served);
    }
}
