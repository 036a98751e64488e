//! What the agent is asked, what it answers, what it reports, and what flows in a session.
//!
//! Each stream to the agent's port begins with one [`Request`], answered by one [`Reply`]. After
//! [`Reply::Spawned`] and [`Reply::Attached`] the stream carries [`SessionFrame`]s both ways; after
//! [`Reply::Watching`] it carries [`Event`]s to the host; after any other reply it ends.
//!
//! The order of variants and fields is what travels: append, never insert, and raise
//! [`VERSION`](crate::VERSION) when something changes that an older peer can't skip.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::frame::{Kind, Message};
use crate::grant::Grants;

/// The first frame on every stream, from the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who are you?
    Hello,
    /// Set clock, random pool and host name, and draw another machine id: after a boot and after a restore, before any
    /// grant or session.
    Prepare(Prepare),
    /// Start a process and carry its bytes on this stream.
    Spawn(Spawn),
    /// Carry the bytes of a session that exists on this stream.
    Attach(Attach),
    /// Which sessions are there?
    Sessions,
    /// Kill what is left of a session's processes and forget it.
    Close(SessionId),
    /// Send a signal to a session's process group.
    Signal { session: SessionId, signal: i32 },
    /// Memory, time, processes.
    Stats,
    /// Report [`Event`]s on this stream from now on.
    Watch,
    /// End everything and the VM.
    PowerOff,
    /// Make hosts and folders reachable: after [`Self::Prepare`], before any session.
    Grant(Grants),
    /// The same, where some of the folders are single files: those with these numbers.
    GrantWithFiles { grants: Grants, files: Vec<u32> },
    /// Set clock, random pool and host name of a VM that was suspended and goes on: it is the machine that it was.
    GoOn(Prepare),
    /// Start a process as [`Self::Spawn`] does, in a root of its own: what it writes is seen by nobody else, and goes with
    /// its processes.
    Rehearse(Spawn),
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    Refused(Refusal),
    Hello(Hello),
    Prepared,
    Spawned { pid: u32 },
    Attached(Attached),
    Sessions(Vec<SessionInfo>),
    Closed,
    Signalled,
    Stats(Stats),
    Watching,
    PoweringOff,
    Granted,
}

/// What happened in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    Started {
        session: SessionId,
        pid: u32,
    },
    Exited {
        session: SessionId,
        exit: Exit,
    },
    /// Nobody attached the session for a long time: it was closed.
    Expired {
        session: SessionId,
    },
}

/// What flows on a stream that carries a session. Offsets count a channel's bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionFrame {
    /// Bytes of a channel, the first of them at `offset`.
    Data {
        channel: Channel,
        offset: u64,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// The receiver is done with everything before `offset`; its sender may forget it.
    Ack { channel: Channel, offset: u64 },
    /// The channel has no byte at or after `offset`.
    End { channel: Channel, offset: u64 },
    /// To the host: the process is gone. Repeated on each attachment until [`Self::Done`].
    Exit(Exit),
    /// To the guest: the host has the exit and all output; the session may be forgotten.
    Done,
    /// To the host: the session was attached on another stream, this one ends.
    Replaced,
}

impl Message for Request {
    const KIND: Kind = Kind::Request;
}

impl Message for Reply {
    const KIND: Kind = Kind::Reply;
}

impl Message for Event {
    const KIND: Kind = Kind::Event;
}

impl Message for SessionFrame {
    const KIND: Kind = Kind::Session;
}

/// One of a process's three standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Channel {
    Stdin,
    Stdout,
    Stderr,
}

/// One client's conversation with one server process. The host makes it up, at random.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub [u8; 16]);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("session id is not 32 hexadecimal digits")]
pub struct SessionIdError;

impl FromStr for SessionId {
    type Err = SessionIdError;

    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(SessionIdError);
        }
        u128::from_str_radix(text, 16).map(|id| Self(id.to_be_bytes())).map_err(|_| SessionIdError)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The agent's own version, for logs.
    pub agent: String,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// The boot id: another one for each boot, and for each clone.
    pub boot_id: String,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// The time of day in nanoseconds since 1970.
    pub unix_nanos: u64,
    /// At least [`Self::MIN_ENTROPY`] random bytes, credited to the kernel's pool.
    #[serde(with = "serde_bytes")]
    pub entropy: Vec<u8>,
    pub hostname: String,
}

impl Prepare {
    pub const MIN_ENTROPY: usize = 32;
}

impl fmt::Debug for Prepare {
    /// Without the entropy, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepare")
            .field("unix_nanos", &self.unix_nanos)
            .field("hostname", &self.hostname)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spawn {
    pub session: SessionId,
    /// Program and arguments; a program without a slash is searched for on the PATH.
    pub argv: Vec<String>,
    /// Added to the agent's PATH and HOME, or in their place.
    pub env: Vec<(String, String)>,
    /// `/` if not given.
    pub cwd: Option<String>,
    /// `name`, `uid`, `name:group` or `uid:gid`; an unprivileged user if not given.
    pub user: Option<String>,
    pub limits: Limits,
}

impl fmt::Debug for Spawn {
    /// With the names of the environment's variables and without their values, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.env.iter().map(|(name, _)| name).collect();
        f.debug_struct("Spawn")
            .field("session", &self.session)
            .field("argv", &self.argv)
            .field("env", &names)
            .field("cwd", &self.cwd)
            .field("user", &self.user)
            .field("limits", &self.limits)
            .finish()
    }
}

/// What one session's processes may use; the agent's defaults where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub open_files: Option<u64>,
    pub processes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    pub session: SessionId,
    /// What the host has received of the session's output. A host that lost its memory says `None` and
    /// gets everything that was not acknowledged.
    pub received: Option<Received>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received {
    pub stdout: u64,
    pub stderr: u64,
}

/// Where an attached session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub pid: u32,
    /// How many bytes of stdin the guest has received.
    pub stdin_received: u64,
    /// How many of them the process has taken.
    pub stdin_taken: u64,
    /// Whether the last byte received was a newline (or there was none): a host that lost its memory
    /// may then go on with a new line.
    pub stdin_at_line_start: bool,
    /// Whether stdin has ended.
    pub stdin_ended: bool,
    /// The offset of the first byte of stdout that will be sent on this stream.
    pub stdout: u64,
    /// The offset of the first byte of stderr that will be sent on this stream.
    pub stderr: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    pub session: SessionId,
    pub pid: u32,
    pub command: String,
    pub attached: bool,
    pub age_millis: u64,
    /// Set when the process is gone and the host has not yet said [`SessionFrame::Done`].
    pub exit: Option<Exit>,
}

/// How a session's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub outcome: Outcome,
    /// The kernel killed a process of this session because memory ran out.
    pub oom_killed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Code(i32),
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.outcome {
            Outcome::Code(code) => write!(f, "exited with code {code}")?,
            Outcome::Signal(signal) => write!(f, "was killed by signal {signal}")?,
        }
        if self.oom_killed { f.write_str(" (out of memory)") } else { Ok(()) }
    }
}

/// The guest as a whole. Sizes in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub memory_total: u64,
    pub memory_available: u64,
    /// Total less free, buffers and cache that can be dropped.
    pub memory_used: u64,
    pub uptime_millis: u64,
    /// Time the CPUs have spent working since the boot, all of them together.
    pub cpu_millis: u64,
    /// Load average over one minute, times 100.
    pub load_percent: u32,
    pub processes: u32,
    pub oom_kills: u64,
    pub sessions: u32,
}

/// Why the agent did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
pub enum Refusal {
    #[error("command {command} was not found on the image's PATH {searched}")]
    CommandNotFound { command: String, searched: String },
    #[error("{path} does not exist in the image")]
    FileNotFound { path: String },
    #[error("{path} can't be executed: {why}")]
    NotExecutable { path: String, why: String },
    #[error("{path} needs the interpreter {interpreter}, which is not in the image")]
    InterpreterNotFound { path: String, interpreter: String },
    #[error("working directory {path} can't be entered: {why}")]
    WorkingDirectory { path: String, why: String },
    #[error("user {user} is not in the image's /etc/passwd")]
    NoSuchUser { user: String },
    #[error("group {group} is not in the image's /etc/group")]
    NoSuchGroup { group: String },
    #[error("no session {0} in the guest")]
    NoSuchSession(SessionId),
    #[error("session {0} exists already")]
    SessionExists(SessionId),
    #[error("guest has {limit} sessions, which is its limit")]
    TooManySessions { limit: u32 },
    #[error("session {0} can't be resumed: bytes the host has not received were acknowledged")]
    BytesLost(SessionId),
    #[error("request makes no sense: {why}")]
    Invalid { why: String },
    #[error("guest failed to {act}: {why}")]
    Failed { act: String, why: String },
}
