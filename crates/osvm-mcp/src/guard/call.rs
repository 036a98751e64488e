//! One call of a tool: as it was asked for, and what became of it.

use std::time::{Duration, Instant};

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::apart::Handed;
use super::shown;
use crate::bridge::seal::Subject;
use crate::envelope::{Envelope, field, fields};
use crate::era::Era;
use crate::protocol::{CAPABILITIES, VERSION};

/// Longest name that is kept of a tool, in characters; no policy names a longer one.
const LONGEST_NAME: usize = 256;

/// What the type of a result is that asks back, as JSON.
pub(super) const INPUT_REQUIRED: &str = r#""input_required""#;

/// What a line asks for, in terms of `tools/call`.
pub(super) struct Asked<'a> {
    pub(super) tool: String,
    pub(super) arguments: Option<&'a RawValue>,
    /// Whether its result is asked for later, as `tasks/result`.
    pub(super) is_task: bool,
    pub(super) era: Era,
    /// What a modern client says that it can do.
    pub(super) capabilities: Option<&'a RawValue>,
    /// What it brings when it makes a call again.
    pub(super) state: Option<&'a RawValue>,
    pub(super) responses: Option<&'a RawValue>,
    pub(super) params: &'a str,
}

/// A call that the server has heard, or is made elsewhere.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) tool: String,
    pub(super) arguments: Body,
    pub(super) began: Instant,
    pub(super) mark: Mark,
    pub(super) due: Option<Instant>,
    pub(super) max_result_bytes: Option<u64>,
    /// As the client spelled it.
    pub(super) id: Box<RawValue>,
    pub(super) era: Era,
    /// Of a modern client's, which may have to make it again.
    pub(super) subject: Option<Subject>,
    /// Of one that is not for the server.
    pub(super) handed: Option<Handed>,
}

/// A call that is over, whether the server has heard it or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub tool: String,
    pub arguments: Body,
    /// What the server answered; nothing where it did not.
    pub result: Option<Body>,
    pub outcome: Outcome,
    pub took: Duration,
    /// The number of one that was handed out.
    pub apart: Option<u64>,
    /// Of when it was made; nothing where it was not.
    pub mark: Option<Mark>,
}

/// When a call began, by what its guard's caller counts: which place it was in, and where in that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark {
    pub place: u64,
    pub at: u64,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// The server asks back, and wants the call to be made again with the answers.
    InputRequired,
    /// The tool says that it failed.
    ToolError,
    /// It did not reach the server, or its answer did not reach the client.
    Refused(String),
    Failed(String),
    TimedOut,
    Cancelled,
}

/// JSON as it was spelled, or what is kept of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    pub bytes: u64,
    /// In hexadecimal digits.
    pub sha256: String,
    /// The beginning of it, where bodies are kept.
    pub text: Option<String>,
}

impl<'a> Asked<'a> {
    /// `None` for what names no tool, or could be read to name two.
    pub(super) fn read(message: &Envelope<'a>) -> Option<Self> {
        let params = message.params?.get();
        let [name, arguments, task, meta, state, responses] = fields(
            params,
            ["name", "arguments", "task", "_meta", "requestState", "inputResponses"],
        )
        .ok()?;
        let tool = serde_json::from_str(name?.get()).ok()?;
        let says = meta.and_then(|meta| fields(meta.get(), [VERSION, CAPABILITIES]).ok());
        let [version, capabilities] = says.unwrap_or_default();
        let era = if version.is_some() { Era::Modern } else { Era::Legacy };
        let is_task = task.is_some();
        Some(Self { tool, arguments, is_task, era, capabilities, state, responses, params })
    }

    /// What it asks for, whatever it brings.
    pub(super) fn subject(&self) -> Subject {
        Subject::of("tools/call", self.params)
    }
}

impl Ended {
    /// One that the server was not asked.
    pub(super) fn unasked(tool: &str, arguments: Body, outcome: Outcome) -> Self {
        let tool = short(tool);
        let (result, took, apart, mark) = (None, Duration::ZERO, None, None);
        Self { tool, arguments, result, outcome, took, apart, mark }
    }
}

impl Open {
    pub(super) fn ended(self, result: Option<Body>, outcome: Outcome, now: Instant) -> Ended {
        let took = now.saturating_duration_since(self.began);
        let apart = self.handed.map(|handed| handed.number);
        let (tool, mark) = (short(&self.tool), Some(self.mark));
        Ended { tool, arguments: self.arguments, result, outcome, took, apart, mark }
    }
}

impl Body {
    /// Most bytes that are kept of one.
    pub const KEPT: usize = 64 << 10;

    /// Nothing counts as no text at all.
    pub fn of(json: Option<&RawValue>, keep: bool) -> Self {
        let text = json.map_or("", RawValue::get);
        let kept = || text[..text.floor_char_boundary(Self::KEPT)].to_owned();
        let sha256 = hex(&Sha256::digest(text));
        Self { bytes: text.len() as u64, sha256, text: keep.then(kept) }
    }
}

fn short(name: &str) -> String {
    name.chars().take(LONGEST_NAME).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Of a result: what it says of itself. Only in the modern era does one ask back.
pub(super) fn outcome(result: &RawValue, era: Era) -> Outcome {
    let says = |name, text| field(Some(result), name).map(RawValue::get) == Some(text);
    if era == Era::Modern && says("resultType", INPUT_REQUIRED) {
        return Outcome::InputRequired;
    }
    if says("isError", "true") { Outcome::ToolError } else { Outcome::Ok }
}

/// What an error says, harmless and short.
pub(super) fn reason(error: Option<&RawValue>) -> String {
    let error = error.and_then(|error| crate::RpcError::read(error).ok());
    error.map_or_else(|| "an error that can't be read".to_owned(), |error| shown(&error.message))
}
