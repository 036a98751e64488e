//! What a line of the record says.

use std::fmt;
use std::str::FromStr;

use osvm_spec::ServerName;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// One tool call, whichever way it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// From 1 on, in the order of the file.
    pub number: u64,
    /// When it was over: RFC 3339, in UTC, to the millisecond.
    pub time: String,
    pub caller: Caller,
    pub server: ServerName,
    pub tool: String,
    /// Digest of the image that its VM runs from; absent where it needed none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub vm: Option<String>,
    pub arguments: Part,
    /// Absent where the server did not answer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub result: Option<Part>,
    pub outcome: Outcome,
    /// Why it was refused, or failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub why: Option<String>,
    pub ms: u64,
    /// What its VM reached, or tried to, while it ran; absent where that is nothing, or not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub egress: Option<Egress>,
    /// SHA-256 of the line before, without its end.
    pub previous: String,
}

/// Who has called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    /// The user's number.
    pub user: u32,
    pub way: Way,
    /// What the token is called by which it came through the gateway.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub token: Option<String>,
    /// What the client says it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub client: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub version: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// `osvm mcp call`
    Call,
    /// `osvm mcp run`
    Run,
    /// `osvm mcp gateway`
    Gateway,
}

/// Hosts of a VM's egress log, each once. Calls that run in one VM at the same time share them: which of them asked for a
/// host, nobody can tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    pub hosts: Vec<Reached>,
    /// How many there are beyond these.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub more: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reached {
    pub host: String,
    /// Absent for a name that was looked up, and is not granted on any port.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub port: Option<u16>,
    pub outcome: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// It was connected to.
    Allowed,
    /// By policy.
    Refused,
    /// It was let through, and could not be connected to.
    Failed,
}

/// Arguments or a result, as they were spelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub sha256: String,
    pub bytes: u64,
    /// The beginning of it, without values of secrets; only where the configuration says so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub body: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Ok,
    /// The server has asked back: what the client answers is in another call.
    InputRequired,
    /// The tool says that it failed.
    ToolError,
    /// By policy.
    Refused,
    Failed,
    TimedOut,
    Cancelled,
}

/// What a text is that names no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("it is none of {}", Outcome::ALL.map(Outcome::name).join(", "))]
pub struct NoOutcome;

impl FromStr for Outcome {
    type Err = NoOutcome;

    fn from_str(text: &str) -> Result<Self, NoOutcome> {
        Self::ALL.into_iter().find(|outcome| outcome.name() == text).ok_or(NoOutcome)
    }
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::Ok,
        Self::InputRequired,
        Self::ToolError,
        Self::Refused,
        Self::Failed,
        Self::TimedOut,
        Self::Cancelled,
    ];

    /// As lines have it.
    fn name(self) -> String {
        self.word().replace(' ', "_")
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::InputRequired => "input required",
            Self::ToolError => "tool error",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, outcome } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]")?,
            false => f.write_str(host)?,
        }
        port.map_or(Ok(()), |port| write!(f, ":{port}"))?;
        f.write_str(match outcome {
            Reach::Allowed => "",
            Reach::Refused => " refused",
            Reach::Failed => " failed",
        })
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(Reached::to_string).collect();
        f.write_str(&hosts.join(", "))?;
        match self.more {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Way {
    pub fn word(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Run => "run",
            Self::Gateway => "gateway",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_asked_for_as_lines_have_them() {
        for outcome in Outcome::ALL {
            let spelled = serde_json::to_value(outcome).unwrap();
            assert_eq!(spelled.as_str().unwrap().parse(), Ok(outcome));
        }
        let why =
            "it is none of ok, input_required, tool_error, refused, failed, timed_out, cancelled";
        assert_eq!("okay".parse::<Outcome>().unwrap_err().to_string(), why);
    }
}
