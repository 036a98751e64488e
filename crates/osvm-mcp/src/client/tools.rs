//! Calling a tool, and telling a tool that is not there from one that failed.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{Client, Definition};
use crate::connection::Deadline;
use crate::envelope;
use crate::error::McpError;
use crate::guard::misfit;
use crate::schemas::Schemas;

/// Names compared for a hint are no longer than this, in bytes: the comparison is quadratic.
const LONGEST_HINT: usize = 256;

/// How much a name must resemble another to be its hint, from 0 to 1.
const RESEMBLANCE: f64 = 0.6;

/// What a tool returned.
#[derive(Debug, Clone)]
pub struct CallOutcome {
    /// The whole result, as the server spelled it.
    pub result: Box<RawValue>,
    /// Whether the tool says that it failed.
    pub is_error: bool,
}

impl Client {
    /// Calls a tool; `arguments` is an object.
    ///
    /// # Errors
    /// [`McpError::Arguments`] when they do not fit what the server has listed, and it does not hear of the call.
    ///
    /// [`McpError::NoSuchTool`] when the call failed and the server lists no such tool. The list is
    /// asked for only then: servers report an unknown tool as this or that error, or as a result,
    /// and some call tools that they do not list.
    pub async fn call_tool(
        &self,
        name: &str,
        arguments: &RawValue,
        timeout: Duration,
    ) -> Result<CallOutcome, McpError> {
        let deadline = Deadline::after(timeout);
        let outcome = self.call_by(name, arguments, deadline).await;
        match outcome {
            Ok(CallOutcome { is_error: true, .. }) | Err(McpError::Rpc(_)) => {
                self.missing(name, deadline).await.map_or(outcome, Err)
            }
            outcome => outcome,
        }
    }

    /// The same, and an error or a result of the server's stays what it is, whatever the server lists.
    ///
    /// # Errors
    /// As [`call_tool`](Self::call_tool), but for a tool that is not listed.
    pub async fn call_as_it_is(
        &self,
        name: &str,
        arguments: &RawValue,
        timeout: Duration,
    ) -> Result<CallOutcome, McpError> {
        self.call_by(name, arguments, Deadline::after(timeout)).await
    }

    async fn call_by(
        &self,
        name: &str,
        arguments: &RawValue,
        deadline: Deadline,
    ) -> Result<CallOutcome, McpError> {
        if let Some(why) = self.schemas().violation(name, Some(arguments)) {
            return Err(McpError::Arguments(misfit(name, &why)));
        }
        let params = to_raw_value(&Call { name, arguments }).expect("strings and JSON serialize");
        let result = self.ask("tools/call", Some(&params), deadline).await?;
        read_outcome(name, result)
    }

    /// Notes what arguments the server's tools take.
    pub(super) fn learn(&self, tools: &[Definition]) {
        for definition in tools {
            let fields = envelope::fields(definition.raw.get(), ["inputSchema"]);
            let schema = fields.ok().and_then(|[schema]| schema);
            self.schemas().learn(&definition.name, schema);
        }
    }

    fn schemas(&self) -> MutexGuard<'_, Schemas> {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error to report if the server's list is to be had and lacks the name.
    async fn missing(&self, name: &str, deadline: Deadline) -> Option<McpError> {
        let tools = self.list("tools/list", deadline).await.ok()?;
        if tools.iter().any(|tool| tool.name == name) {
            return None;
        }
        let nearest = nearest(name, tools.iter().map(|tool| tool.name.as_str()));
        Some(McpError::NoSuchTool { name: name.to_owned(), nearest: nearest.map(str::to_owned) })
    }
}

#[derive(Serialize)]
struct Call<'a> {
    name: &'a str,
    arguments: &'a RawValue,
}

fn read_outcome(name: &str, result: Box<RawValue>) -> Result<CallOutcome, McpError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Outcome {
        is_error: Option<bool>,
        result_type: Option<String>,
    }
    let outcome: Outcome = serde_json::from_str(result.get())
        .map_err(|error| McpError::Protocol(format!("the result of tools/call: {error}")))?;
    match outcome.result_type.as_deref() {
        None | Some("complete") => {
            Ok(CallOutcome { result, is_error: outcome.is_error.unwrap_or(false) })
        }
        Some("input_required") => Err(McpError::NeedsInput(name.to_owned())),
        Some(other) => Err(McpError::Protocol(format!("a result of the unknown type {other}"))),
    }
}

/// The name that a mistyped one probably meant.
fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .filter(|candidate| candidate.len().max(name.len()) <= LONGEST_HINT)
        .map(|candidate| {
            let other = candidate.to_lowercase();
            (strsim::normalized_damerau_levenshtein(&lower, &other), candidate)
        })
        .filter(|(resemblance, _)| *resemblance >= RESEMBLANCE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
