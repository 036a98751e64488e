//! The hostile mode: as root, it tries whatever a stranger's server might try against its host.
//!
//! Each tool makes attempts and returns what it did and what it got, as data. It judges nothing: what
//! counts as having got through is for the host to say, which also sees what the guest can't.

mod accomplice;
mod exhaust;
mod flood;
mod look;
mod reach;
mod usurp;

use std::io;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    JsonObject, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) use accomplice::accomplice;

/// What the tools are called, and what each tries.
const TOOLS: [(&str, &str); 7] = [
    ("look", "Looks for whatever of the host can be seen: processes, devices, routes, sockets."),
    ("read", "Opens and reads each of `paths`."),
    ("reach", "Connects or sends to each of `targets`, such as tcp:127.0.0.1:80 or vsock:2:5252."),
    (
        "knock",
        "Connects `count` times in `seconds` to vsock ports of the host that nobody has opened.",
    ),
    ("exhaust", "Uses up `what`: memory, processes, threads, disk, processor or translations."),
    (
        "flood",
        "Writes `kib` of `kind` to `to` (stdout, stderr, console or kmsg), or less if `seconds` are over.",
    ),
    ("usurp", "Takes the agent's place, `how`: silence, garbage, flap, lie or reboot."),
];

/// The server. It keeps nothing between calls.
pub(crate) struct Hostile;

impl ServerHandler for Hostile {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("osvm-hostile", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tool = |(name, what)| Tool::new(name, what, JsonObject::new());
        Ok(ListToolsResult::with_all_items(TOOLS.map(tool).into()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(request.arguments.unwrap_or_default());
        let invalid = |error: String| ErrorData::invalid_params(error, None);
        let attempt = tokio::task::spawn_blocking(move || attempt(&request.name, arguments));
        let evidence = attempt.await.map_err(|error| invalid(error.to_string()))?;
        let evidence = evidence.map_err(invalid)?;
        let mut result = CallToolResult::success(vec![ContentBlock::text(evidence.to_string())]);
        result.structured_content = Some(evidence);
        Ok(result.into())
    }
}

/// Makes the attempt of that name. An error means that nothing was attempted.
fn attempt(name: &str, arguments: Value) -> Result<Value, String> {
    match name {
        "look" => Ok(look::look()),
        "read" => parse(arguments).map(reach::read),
        "reach" => parse(arguments).map(reach::reach),
        "knock" => parse(arguments).map(reach::knock),
        "exhaust" => parse(arguments).map(exhaust::exhaust),
        "flood" => parse(arguments).map(flood::flood),
        "usurp" => parse(arguments).map(usurp::usurp),
        unknown => Err(format!("unknown tool: {unknown}")),
    }
}

fn parse<T: DeserializeOwned>(arguments: Value) -> Result<T, String> {
    serde_json::from_value(arguments).map_err(|error| error.to_string())
}

/// An attempt's outcome: what came back, or why nothing did.
fn outcome(got: io::Result<impl Into<Value>>) -> Value {
    match got {
        Ok(got) => json!({ "got": got.into() }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

/// Does something after the tool's answer has left the guest, since there may be no way out for it then.
fn later(act: impl FnOnce() + Send + 'static) {
    const ANSWERED: Duration = Duration::from_millis(500);
    std::thread::spawn(move || {
        std::thread::sleep(ANSWERED);
        act();
    });
}

/// Leaves evidence on the console, which the host keeps even of a VM whose agent is no more.
fn testify(evidence: &Value) {
    // A console that can't be written to leaves the host without evidence, which it takes for a failure.
    let _ = std::fs::write("/dev/console", format!("osvm-hostile: {evidence}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_listed_tool_exists() {
        for (name, _) in TOOLS {
            let refused = attempt(name, json!(17)).err().unwrap_or_default();
            assert!(!refused.starts_with("unknown tool"), "{name}: {refused}");
        }
        assert_eq!(attempt("surrender", json!({})).unwrap_err(), "unknown tool: surrender");
    }

    #[test]
    fn an_outcome_tells_an_error_from_what_was_got() {
        assert_eq!(outcome(Ok("x")), json!({ "got": "x" }));
        let refused = io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(outcome(Err::<Value, _>(refused)), json!({ "error": "entity not found" }));
    }
}
