//! The client against rmcp's server, as it comes and narrowed to one era.

use std::borrow::Cow;

use osvm_mcp::{Client, Era, Limits, McpError};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
    ListToolsResult, PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig,
    Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};
use tokio::io::{DuplexStream, ReadHalf, WriteHalf};

use crate::peer::{LONG, info, raw};

/// A server with one tool, of some versions only.
struct Fixture(&'static [ProtocolVersion]);

impl ServerHandler for Fixture {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("fixture", "1"))
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(self.0)
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({ "type": "object" }).as_object().unwrap().clone();
        Ok(ListToolsResult::with_all_items(vec![Tool::new("my-tool", "Repeats.", schema)]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if request.name != "my-tool" {
            return Err(ErrorData::invalid_params("unknown tool", None));
        }
        let text = Value::Object(request.arguments.unwrap_or_default()).to_string();
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}

pub(crate) fn start(
    versions: &'static [ProtocolVersion],
) -> (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>) {
    let (near, far) = tokio::io::duplex(64 << 10);
    tokio::spawn(async move {
        if let Ok(running) = Fixture(versions).serve(near).await {
            let _ = running.waiting().await;
        }
    });
    tokio::io::split(far)
}

async fn connect(versions: &'static [ProtocolVersion]) -> Result<Client, McpError> {
    let (reader, writer) = start(versions);
    Client::connect(reader, writer, info(), Limits::default()).await
}

pub(crate) async fn use_it(client: &Client) {
    assert_eq!(client.server().name.as_deref(), Some("fixture"));
    let tools = client.list_tools(LONG).await.unwrap();
    assert_eq!((tools.len(), &*tools[0].name), (1, "my-tool"));
    let outcome = client.call_tool("my-tool", &raw(&json!({ "param": "value" })), LONG).await;
    let result: Value = serde_json::from_str(outcome.unwrap().result.get()).unwrap();
    assert_eq!(result["content"][0]["text"], r#"{"param":"value"}"#);
    let missing = client.call_tool("my_tool", &raw(&json!({})), LONG).await.unwrap_err();
    let McpError::NoSuchTool { nearest, .. } = missing else { panic!("{missing}") };
    assert_eq!(nearest.as_deref(), Some("my-tool"));
}

#[tokio::test]
async fn a_server_of_both_eras_is_met_in_the_legacy_one() {
    let client = connect(ProtocolVersion::KNOWN_VERSIONS).await.unwrap();
    assert_eq!(client.server().era, Era::Legacy);
    assert_eq!(client.server().protocol_version, "2025-11-25");
    use_it(&client).await;
}

#[tokio::test]
async fn a_legacy_server_is_met_in_its_own_version() {
    let client = connect(&[ProtocolVersion::V_2024_11_05]).await.unwrap();
    assert_eq!(client.server().protocol_version, "2024-11-05");
    use_it(&client).await;
}

#[tokio::test]
async fn a_server_of_both_eras_can_be_met_in_the_modern_one() {
    let (reader, writer) = start(ProtocolVersion::KNOWN_VERSIONS);
    let client = Client::connect_modern(reader, writer, info(), Limits::default()).await.unwrap();
    assert_eq!(client.server().era, Era::Modern);
    use_it(&client).await;
}

#[tokio::test]
async fn a_modern_server_ends_after_a_handshake_and_is_met_at_the_second_start() {
    const MODERN: &[ProtocolVersion] = &[ProtocolVersion::V_2026_07_28];
    let error = connect(MODERN).await.unwrap_err();
    assert!(matches!(error, McpError::Refused(_)), "{error}");
    let (reader, writer) = start(MODERN);
    let client = Client::connect_modern(reader, writer, info(), Limits::default()).await.unwrap();
    assert_eq!(client.server().era, Era::Modern);
    use_it(&client).await;
}

#[tokio::test]
async fn a_legacy_server_can_not_be_met_in_the_modern_era() {
    let (reader, writer) = start(&[ProtocolVersion::V_2025_06_18]);
    let met = Client::connect_modern(reader, writer, info(), Limits::default()).await;
    let McpError::Version { supported } = met.unwrap_err() else { panic!() };
    assert_eq!(supported, ["2025-06-18"]);
}
