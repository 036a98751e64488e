//! `/v1/servers`: tool calls and listings, each in the server's VM.

use axum::Json;
use axum::extract::{Path, State};
use osvm_mcp::{CallOutcome, Client, Definition, McpError};
use osvm_spec::ServerName;
use std::time::Duration;

use super::answer::{self, Answer};
use super::guest::Need;
use super::place::Place;
use super::{Daemon, Shared};
use crate::api::{ApiError, CallAnswer, CallRequest, ListAnswer, ListRequest, Listing};
use crate::audit::Way;

pub(super) async fn call(
    State(daemon): Shared,
    Path(name): Path<ServerName>,
    Json(request): Json<CallRequest>,
) -> Answer<CallAnswer> {
    let config = daemon.config()?;
    let mut watch =
        daemon.watch(&config, &name, &request.overrides, &request.secrets, Way::Call)?;
    watch.rules.confirmed = request.confirmed;
    let call = watch.begin(&request.tool, &request.arguments)?;
    let limit = |usual| call.limit(usual);
    let tool = request.tool.clone();
    let made = make(&daemon, (&name, Need::Tool(&tool)), request, &watch.place(), limit).await;
    match made.and_then(|called| called.map_err(ApiError::from)) {
        Ok(CallOutcome { result, is_error }) => {
            call.answered(&result, is_error)?;
            answer::json(CallAnswer { result, is_error })
        }
        Err(error) => {
            call.failed(&error);
            Err(error)
        }
    }
}

/// Has the server make the call, in the VM that serves it, which is told to `place`. The inner result is the server's
/// own; of a call apart it stays as the server has it.
pub(super) async fn make(
    daemon: &Daemon,
    (name, need): (&ServerName, Need<'_>),
    request: CallRequest,
    place: &Place,
    limit: impl FnOnce(Duration) -> Duration,
) -> Result<Result<CallOutcome, McpError>, ApiError> {
    let is_apart = matches!(need, Need::Apart(_));
    let (guest, server) = daemon.guest(name, &request.overrides, request.secrets, need).await?;
    place.is_in(&guest);
    let usual = request.timeout_seconds.map_or(server.call_timeout, Duration::from_secs);
    let client = guest.client(&daemon.greeter, server.launch_timeout).await?;
    guest.vm.set_used();
    let (tool, arguments) = (&request.tool, &request.arguments);
    let called = match is_apart {
        true => client.call_as_it_is(tool, arguments, limit(usual)).await,
        false => client.call_tool(tool, arguments, limit(usual)).await,
    };
    daemon.recordings.hear(&guest.vm.plan.name, || match &called {
        Ok(outcome) => outcome.result.get().to_owned(),
        Err(error) => error.to_string(),
    });
    if called.is_ok() {
        guest.visit.count_call();
    }
    Ok(called)
}

pub(super) async fn list(
    State(daemon): Shared,
    Path(name): Path<ServerName>,
    Json(request): Json<ListRequest>,
) -> Answer<ListAnswer> {
    let (guest, server) =
        daemon.guest(&name, &request.overrides, request.secrets, Need::Anything).await?;
    let client = guest.client(&daemon.greeter, server.launch_timeout).await?;
    let mut items = listing(&client, request.what, server.call_timeout).await?;
    if request.what == Listing::Tools {
        items.retain(|tool| server.tool_policy.denial(&tool.name).is_none());
    }
    answer::json(ListAnswer { items: items.into_iter().map(|item| item.raw).collect() })
}

async fn listing(
    client: &Client,
    what: Listing,
    limit: Duration,
) -> Result<Vec<Definition>, McpError> {
    match what {
        Listing::Tools => client.list_tools(limit).await,
        Listing::Resources => client.list_resources(limit).await,
        Listing::ResourceTemplates => client.list_resource_templates(limit).await,
        Listing::Prompts => client.list_prompts(limit).await,
    }
}
