//! The tools. Their definitions are in `tools.json`, answers that are always the same in `answers.json`, and the forms
//! that users are asked to fill in, in `forms.json`.
#![expect(deprecated, reason = "the revision before the latest has logging and sampling")]

use std::collections::BTreeMap;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientResult,
    ContentBlock, ElicitRequest, ElicitRequestParams, LoggingLevel,
    LoggingMessageNotificationParam, ProgressNotificationParam, ProtocolVersion, ResultType,
    ServerRequest, Tool,
};
use rmcp::service::{RequestContext, ServiceError};
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use crate::changes::{Change, tell_session};
use crate::rounds::{self, Brought, Turn};
use crate::server::Conformance;

/// Between two notifications of one call.
const MOMENT: Duration = Duration::from_millis(50);

pub(crate) fn list() -> Vec<Tool> {
    serde_json::from_str(include_str!("tools.json")).expect("a test reads the same file")
}

/// Whether this is of 2026-07-28, which has no sessions, or of one that came after it.
fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    let version = context.protocol_version();
    version.is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

pub(crate) async fn call(
    server: &Conformance,
    request: CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let name = &*request.name;
    let brought = Brought {
        responses: request.input_responses.as_ref(),
        state: request.request_state.as_deref(),
        capabilities: context.client_capabilities().unwrap_or_default(),
    };
    if let Some(turn) = rounds::turn(name, &brought) {
        return Ok(match turn? {
            Turn::Asks(asks) => asks.into(),
            Turn::Done(told) => text(told).into(),
        });
    }
    let mut fixed: BTreeMap<String, CallToolResult> =
        serde_json::from_str(include_str!("answers.json")).expect("a test reads the same file");
    if let Some(mut answer) = fixed.remove(name) {
        answer.result_type = Some(ResultType::COMPLETE);
        return Ok(answer.into());
    }
    let arguments = Value::Object(request.arguments.unwrap_or_default());
    let done = match name {
        "test_tool_with_logging" | "test_logging_tool" => log(server, context).await,
        "test_tool_with_progress" => progress(context).await,
        "test_reconnection" => Ok(linger().await),
        "test_wait" => server.waits.wait(context).await,
        "test_cancelled" => Ok(server.waits.ended().await),
        "test_sampling" => sample(&arguments, context).await,
        "test_missing_capability" => return need_sampling(&brought.capabilities),
        "test_trigger_tool_change" => change(Change::Tools, server, context).await,
        "test_trigger_prompt_change" => change(Change::Prompts, server, context).await,
        "test_trigger_resource_change" => change(Change::Resource, server, context).await,
        _ => match form(name) {
            Some(form) => ask(form, &arguments, context).await,
            None => return Err(ErrorData::invalid_params(format!("unknown tool: {name}"), None)),
        },
    };
    // A client that can't, or would not, answer is no fault of the request.
    Ok(done.map_or_else(|error| failure(error.to_string()), text).into())
}

fn text(text: String) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

fn failure(why: String) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(why)])
}

async fn linger() -> String {
    tokio::time::sleep(2 * MOMENT).await;
    "That took a moment.".to_owned()
}

async fn log(
    server: &Conformance,
    context: &RequestContext<RoleServer>,
) -> Result<String, ServiceError> {
    for said in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        let wanted = match is_modern(context) {
            true => context.meta.log_level(),
            false => Some(server.level()),
        };
        if wanted.is_some_and(|level| level as u8 <= LoggingLevel::Info as u8) {
            let message = LoggingMessageNotificationParam::new(LoggingLevel::Info, said.into());
            context.peer.notify_logging_message(message).await?;
            tokio::time::sleep(MOMENT).await;
        }
    }
    Ok("That was logged where it was wanted.".to_owned())
}

async fn progress(context: &RequestContext<RoleServer>) -> Result<String, ServiceError> {
    for done in [0.0, 50.0, 100.0] {
        if let Some(token) = context.meta.get_progress_token() {
            let progress = ProgressNotificationParam::new(token, done).with_total(100.0);
            context.peer.notify_progress(progress).await?;
        }
        tokio::time::sleep(MOMENT).await;
    }
    Ok("That went on in three steps.".to_owned())
}

async fn sample(
    arguments: &Value,
    context: &RequestContext<RoleServer>,
) -> Result<String, ServiceError> {
    let content =
        json!({ "type": "text", "text": arguments["prompt"].as_str().unwrap_or_default() });
    let asked = json!({ "messages": [{ "role": "user", "content": content }], "maxTokens": 100 });
    let asked = serde_json::from_value(asked).expect("a message with one text");
    let answer = context.peer.create_message(asked).await?;
    let answer = serde_json::to_value(answer).unwrap_or_default();
    let answer = answer.pointer("/content/text").and_then(Value::as_str).unwrap_or("no text");
    Ok(format!("LLM response: {answer}"))
}

/// No call can go on without it, so there is nothing more that this tool does.
fn need_sampling(client: &ClientCapabilities) -> Result<CallToolResponse, ErrorData> {
    match client.sampling {
        Some(_) => Ok(text("The client has a model.".to_owned()).into()),
        None => {
            let needed = ClientCapabilities::builder().enable_sampling().build();
            Err(ErrorData::missing_required_client_capability(needed))
        }
    }
}

fn form(name: &str) -> Option<Value> {
    let mut forms: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("forms.json")).expect("a test reads the same file");
    forms.remove(name)
}

async fn ask(
    mut form: Value,
    arguments: &Value,
    context: &RequestContext<RoleServer>,
) -> Result<String, ServiceError> {
    if let Some(message) = arguments["message"].as_str() {
        form["message"] = message.into();
    }
    let form: ElicitRequestParams = serde_json::from_value(form).expect("a test reads it");
    let form = ServerRequest::ElicitRequest(ElicitRequest::new(form));
    let ClientResult::ElicitResult(answer) = context.peer.send_request(form).await? else {
        return Err(ServiceError::UnexpectedResponse);
    };
    let answer = serde_json::to_value(answer).unwrap_or_default();
    let action = answer["action"].as_str().unwrap_or_default();
    Ok(format!("User response: action={action}, content={}", answer["content"]))
}

async fn change(
    change: Change,
    server: &Conformance,
    context: &RequestContext<RoleServer>,
) -> Result<String, ServiceError> {
    server.changes.tell(change);
    if !is_modern(context) {
        tell_session(change, &context.peer).await?;
    }
    Ok("Whoever wanted to know was told.".to_owned())
}
