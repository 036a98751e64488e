//! The server as rmcp wants it: who it is, its tools, and the way from a call to a tool.

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};

use crate::tools::{Failure, Kept, Output};

/// The server, with the memory that `allocate` was told to keep.
#[derive(Default)]
pub(crate) struct Demo {
    kept: Kept,
}

impl ServerHandler for Demo {
    fn get_info(&self) -> ServerConfig {
        let identity = Implementation::new("osvm-demo", env!("CARGO_PKG_VERSION"))
            .with_title("osvm demo server");
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(identity)
            .with_instructions(
                "osvm's built-in demo: call system_info to see which kernel answers.",
            )
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(crate::tools::list()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let called = tokio::select! {
            called = crate::tools::call(&request.name, arguments, &self.kept) => called,
            // rmcp drops the answer to a cancelled call, but lets the call run on.
            () = context.ct.cancelled() => Err(Failure::Cancelled),
        };
        let result = match called {
            Ok(Output { text, data }) => {
                let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
                result.structured_content = data;
                result
            }
            Err(unknown @ Failure::UnknownTool(_)) => {
                return Err(ErrorData::invalid_params(unknown.to_string(), None));
            }
            Err(failure) => CallToolResult::error(vec![ContentBlock::text(failure.to_string())]),
        };
        Ok(result.into())
    }
}
