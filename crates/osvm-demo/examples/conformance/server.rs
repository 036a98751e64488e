//! The server as rmcp wants it: what it is able to, and the way from each request to its answer.
#![expect(deprecated, reason = "the revision before the latest has subscriptions and log levels")]

use std::sync::{Arc, Mutex};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CompleteRequestParams, CompleteResult, CompletionInfo,
    GetPromptRequestParams, GetPromptResponse, Implementation, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, LoggingLevel,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerConfig,
    SetLevelRequestParams, SubscribeRequestParams, SubscriptionFilter, Tool,
    UnsubscribeRequestParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::json;

use crate::changes::Changes;
use crate::rounds::{self, Brought, Turn};
use crate::waits::Waits;
use crate::{prompts, resources, tools};

/// What completes any argument.
const PLACES: [&str; 3] = ["paris", "park", "party"];

/// One that all sessions share.
#[derive(Clone)]
pub(crate) struct Conformance {
    pub(crate) changes: Changes,
    pub(crate) waits: Waits,
    level: Arc<Mutex<LoggingLevel>>,
}

impl Default for Conformance {
    fn default() -> Self {
        let level = Arc::new(Mutex::new(LoggingLevel::Debug));
        Self { changes: Changes::default(), waits: Waits::default(), level }
    }
}

impl Conformance {
    /// The least that a session wants to know.
    pub(crate) fn level(&self) -> LoggingLevel {
        *self.level.lock().expect("nothing panics while holding it")
    }
}

type Context = RequestContext<RoleServer>;
type Page = Option<PaginatedRequestParams>;

impl ServerHandler for Conformance {
    fn get_info(&self) -> ServerConfig {
        let able = json!({
            "tools": { "listChanged": true },
            "prompts": { "listChanged": true },
            "resources": { "subscribe": true },
            "completions": {},
            "logging": {},
        });
        ServerConfig::new(serde_json::from_value(able).expect("capabilities"))
            .with_server_info(Implementation::new("osvm-conformance", env!("CARGO_PKG_VERSION")))
    }

    async fn list_tools(&self, _: Page, _: Context) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools::list()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::list().into_iter().find(|tool| tool.name == name)
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: Context,
    ) -> Result<CallToolResponse, ErrorData> {
        tools::call(self, request, &context).await
    }

    async fn list_prompts(&self, _: Page, _: Context) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(prompts::list()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        context: Context,
    ) -> Result<GetPromptResponse, ErrorData> {
        let brought = Brought {
            responses: request.input_responses.as_ref(),
            state: request.request_state.as_deref(),
            capabilities: context.client_capabilities().unwrap_or_default(),
        };
        let mut arguments = request.arguments.unwrap_or_default();
        match rounds::turn(&request.name, &brought).transpose()? {
            Some(Turn::Asks(asks)) => return Ok(asks.into()),
            Some(Turn::Done(told)) => arguments.insert("answers".to_owned(), told.into()),
            None => None,
        };
        Ok(prompts::get(&request.name, &arguments)?.into())
    }

    async fn list_resources(&self, _: Page, _: Context) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(resources::list()))
    }

    async fn list_resource_templates(
        &self,
        _: Page,
        _: Context,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(resources::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: Context,
    ) -> Result<ReadResourceResponse, ErrorData> {
        Ok(resources::read(&request.uri)?.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: Context,
    ) -> Result<CompleteResult, ErrorData> {
        let begun = |place: &&str| place.starts_with(&request.argument.value);
        let places = PLACES.iter().copied().filter(begun).map(str::to_owned).collect();
        let invalid = |why| ErrorData::internal_error(why, None);
        Ok(CompleteResult::new(CompletionInfo::new(places).map_err(invalid)?))
    }

    async fn set_level(&self, request: SetLevelRequestParams, _: Context) -> Result<(), ErrorData> {
        *self.level.lock().expect("nothing panics while holding it") = request.level;
        Ok(())
    }

    /// Whoever has the resource changed is told, subscribed or not.
    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        _: Context,
    ) -> Result<(), ErrorData> {
        resources::read(&request.uri).map(drop)
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: Context,
    ) -> Result<(), ErrorData> {
        resources::read(&request.uri).map(drop)
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        // The client hears that it listens before `listen` is called, and may have something changed at once.
        self.changes.announce();
        Some(requested.supported_by(&self.get_info().capabilities))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        self.changes.listen(&context).await
    }
}
