//! `/v1/servers`: tool calls and listings, each in the server's VM.

use axum::Json;
use axum::extract::{Path, State};
use osvm_mcp::{Client, Definition, McpError};
use osvm_spec::ServerName;
use std::time::Duration;

use super::Shared;
use super::answer::{self, Answer};
use crate::api::{CallAnswer, CallRequest, ListAnswer, ListRequest, Listing};

pub(super) async fn call(
    State(daemon): Shared,
    Path(name): Path<ServerName>,
    Json(request): Json<CallRequest>,
) -> Answer<CallAnswer> {
    let (guest, server) =
        daemon.guest(&name, &request.overrides, request.secrets, Some(&request.tool)).await?;
    let limit = request.timeout_seconds.map_or(server.call_timeout, Duration::from_secs);
    let client = guest.client(&daemon.greeter, server.launch_timeout).await?;
    let called = client.call_tool(&request.tool, &request.arguments, limit).await;
    daemon.recordings.hear(&guest.vm.plan.name, || match &called {
        Ok(outcome) => outcome.result.get().to_owned(),
        Err(error) => error.to_string(),
    });
    let outcome = called?;
    guest.visit.count_call();
    answer::json(CallAnswer { result: outcome.result, is_error: outcome.is_error })
}

pub(super) async fn list(
    State(daemon): Shared,
    Path(name): Path<ServerName>,
    Json(request): Json<ListRequest>,
) -> Answer<ListAnswer> {
    let (guest, server) = daemon.guest(&name, &request.overrides, request.secrets, None).await?;
    let client = guest.client(&daemon.greeter, server.launch_timeout).await?;
    let items = listing(&client, request.what, server.call_timeout).await?;
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
