//! Who the server is and which era it speaks.

use std::collections::HashMap;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::ClientInfo;
use crate::connection::{Connection, Deadline};
use crate::era::{self, Era, LEGACY, MODERN};
use crate::error::{McpError, RpcError};

/// For `server/discover` after a refusal. The server has just answered, so it is up; most are of the
/// legacy era, and some of those stay silent on a method that they don't know.
const PROBE: Duration = Duration::from_secs(10);

/// What a server says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerInfo {
    pub era: Era,
    /// The revision agreed on.
    pub protocol_version: String,
    /// The implementation's name and version. Modern servers need not tell.
    pub name: Option<String>,
    pub version: Option<String>,
    /// As the server spelled them.
    pub capabilities: Box<RawValue>,
    /// For a model: what the server is good for.
    pub instructions: Option<String>,
}

impl ServerInfo {
    /// Whether the server declared that capability, such as `resources`.
    pub fn declares(&self, capability: &str) -> bool {
        let declared = serde_json::from_str::<HashMap<String, IgnoredAny>>(self.capabilities.get());
        declared.is_ok_and(|declared| declared.contains_key(capability))
    }
}

/// Meets a server of unknown era.
pub(super) async fn initialize(
    connection: &Connection,
    client: &ClientInfo,
    timeout: Duration,
) -> Result<ServerInfo, McpError> {
    let refusal = match offer(connection, client, LEGACY[0], timeout).await {
        Err(McpError::Rpc(refusal)) => refusal,
        other => return other,
    };
    let supported = refusal.supported_versions();
    if let Some(older) = LEGACY.into_iter().find(|version| supported.iter().any(|s| s == version)) {
        return offer(connection, client, older, timeout).await;
    }
    tracing::debug!(%refusal, "the server refused initialize, trying server/discover");
    discover(connection, client, timeout.min(PROBE)).await.map_err(|error| explain(error, refusal))
}

/// The first refusal says more than the failure of what was tried next, unless that knows better.
fn explain(error: McpError, refusal: RpcError) -> McpError {
    match error {
        McpError::ServerClosed { .. } => McpError::Refused(refusal),
        McpError::Rpc(_) | McpError::Timeout { .. } => McpError::Rpc(refusal),
        error => error,
    }
}

async fn offer(
    connection: &Connection,
    client: &ClientInfo,
    version: &str,
    timeout: Duration,
) -> Result<ServerInfo, McpError> {
    let params = json!({ "protocolVersion": version, "capabilities": {}, "clientInfo": client });
    let params = to_raw_value(&params).expect("it is JSON");
    let result = connection.call("initialize", Some(&params), Deadline::after(timeout)).await?;
    let Initialized { protocol_version, capabilities, server_info, instructions } =
        parse("initialize", &result)?;
    connection.notify("notifications/initialized", None);
    let Implementation { name, version } = server_info.unwrap_or_default();
    let era = Era::Legacy;
    Ok(ServerInfo { era, protocol_version, name, version, capabilities, instructions })
}

/// Meets a server of the modern era.
pub(super) async fn discover(
    connection: &Connection,
    client: &ClientInfo,
    timeout: Duration,
) -> Result<ServerInfo, McpError> {
    let params = era::with_meta(None, client).expect("no parameters of the caller's are in it");
    connection.stop_replying();
    let deadline = Deadline::after(timeout);
    let result = connection.call("server/discover", Some(&params), deadline).await;
    let result = result.map_err(|error| match error {
        McpError::Rpc(refusal) if !refusal.supported_versions().is_empty() => {
            McpError::Version { supported: refusal.supported_versions() }
        }
        error => error,
    })?;
    let Discovered { supported_versions: supported, capabilities, meta, instructions } =
        parse("server/discover", &result)?;
    if !supported.iter().any(|version| version == MODERN) {
        return Err(McpError::Version { supported });
    }
    let Implementation { name, version } = meta.server_info.unwrap_or_default();
    let (era, protocol_version) = (Era::Modern, MODERN.to_owned());
    Ok(ServerInfo { era, protocol_version, name, version, capabilities, instructions })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized {
    protocol_version: String,
    #[serde(default = "nothing")]
    capabilities: Box<RawValue>,
    server_info: Option<Implementation>,
    instructions: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Discovered {
    supported_versions: Vec<String>,
    #[serde(default = "nothing")]
    capabilities: Box<RawValue>,
    #[serde(rename = "_meta", default)]
    meta: Meta,
    instructions: Option<String>,
}

#[derive(Deserialize, Default)]
struct Meta {
    #[serde(rename = "io.modelcontextprotocol/serverInfo")]
    server_info: Option<Implementation>,
}

#[derive(Deserialize, Default)]
struct Implementation {
    name: Option<String>,
    version: Option<String>,
}

fn nothing() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("it is JSON")
}

fn parse<'a, T: Deserialize<'a>>(method: &str, result: &'a RawValue) -> Result<T, McpError> {
    serde_json::from_str(result.get())
        .map_err(|error| McpError::Protocol(format!("the result of {method}: {error}")))
}
