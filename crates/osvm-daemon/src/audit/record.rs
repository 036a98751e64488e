//! What a line of the record says.

use osvm_spec::ServerName;
use serde::{Deserialize, Serialize};

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
    /// The tool says that it failed.
    ToolError,
    /// By policy.
    Refused,
    Failed,
    TimedOut,
    Cancelled,
}

impl Outcome {
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ToolError => "tool error",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Cancelled => "cancelled",
        }
    }
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
