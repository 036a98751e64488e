//! Why a request has no result: one enum, since whoever waits meets any of these.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::protocol;
use crate::received::{Received, printable};

/// Why a server did not do what it was asked. Each variant calls for another reaction (exit code,
/// restart, another era), the text says the rest.
#[derive(Debug, Clone, Error)]
pub enum McpError {
    #[error("no answer to {} within {} s{}", printable(method), after.as_secs_f64(), so_far(received))]
    Timeout { method: String, after: Duration, received: Received },
    /// The server's process ended, or its connection was cut.
    #[error("the server ended the connection: {why}{}", so_far(received))]
    ServerClosed { why: String, received: Received },
    #[error("the server broke the protocol: {}", printable(_0))]
    Protocol(String),
    /// The server answered with an error.
    #[error("the server refused: {0}")]
    Rpc(RpcError),
    #[error("the server exceeded a limit: {what}{}", so_far(received))]
    Limit { what: String, received: Received },
    /// The caller's fault: `params` was no object.
    #[error("the parameters are no JSON object: {0}")]
    Parameters(String),
    /// The server was not asked.
    #[error("{}", printable(_0))]
    Arguments(String),
    /// The server's list has no such tool. Said only after the server failed to call it.
    #[error("no such tool: {}", printable(name))]
    NoSuchTool { name: String, nearest: Option<String> },
    /// The server wants to ask back before it answers; a plain call has nobody to ask.
    #[error("{} asks for input, which was not offered", printable(_0))]
    NeedsInput(String),
    /// The server refused `initialize` and then ended. A server of the modern era may do that, to
    /// be started anew and met with [`Client::connect_modern`](crate::Client::connect_modern).
    #[error("the server refused the handshake and ended: {0}")]
    Refused(RpcError),
    #[error("the server speaks other protocol versions only: {}", printable(&supported.join(", ")))]
    Version { supported: Vec<String> },
}

/// A JSON-RPC error as the server wrote it.
#[derive(Debug, Clone, Error, Deserialize)]
#[error("{} (code {code})", printable(message))]
pub struct RpcError {
    pub code: i64,
    #[serde(default)]
    pub message: String,
    pub data: Option<Box<RawValue>>,
    /// All of it, as it was spelled.
    #[serde(skip)]
    pub spelled: Box<RawValue>,
}

impl RpcError {
    /// JSON-RPC's own: nothing by that name.
    pub const METHOD_NOT_FOUND: i64 = protocol::METHOD_NOT_FOUND;

    pub(crate) fn read(spelled: &RawValue) -> Result<Self, serde_json::Error> {
        let error: Self = serde_json::from_str(spelled.get())?;
        Ok(Self { spelled: spelled.to_owned(), ..error })
    }

    /// The protocol versions that the server names in its refusal, if it does.
    pub(crate) fn supported_versions(&self) -> Vec<String> {
        #[derive(Deserialize)]
        struct Data {
            supported: Vec<String>,
        }
        let data = self.data.as_ref().and_then(|data| serde_json::from_str(data.get()).ok());
        data.map_or_else(Vec::new, |data: Data| data.supported)
    }
}

/// What was received matters to whoever got no message, or text where messages should be.
fn so_far(received: &Received) -> String {
    match received {
        Received { messages: 1.., garbage: 0, .. } => String::new(),
        received => format!("; received so far: {received}"),
    }
}
