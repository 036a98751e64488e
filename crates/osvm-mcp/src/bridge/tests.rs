//! Whole conversations across a bridge, rule by rule.

mod bytes;
mod inputs;
mod legacy;
mod modern;
mod questions;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Bridge, Step, Terms};
use crate::era::Era;

const PATIENCE: Duration = Duration::from_secs(600);

/// A bridge, and the time there.
struct Talk {
    bridge: Bridge,
    now: Instant,
}

/// What a line becomes.
struct Heard {
    client: Vec<Value>,
    server: Vec<Value>,
}

impl Talk {
    fn new(client: Era, server: Era) -> Self {
        Self::with(client, server, b"")
    }

    fn with(client: Era, server: Era, binding: &[u8]) -> Self {
        let (now, binding) = (Instant::now(), binding.to_vec());
        let server_version = "2025-06-18".to_owned();
        let terms = Terms { server_version, binding, key: [7; 32], patience: PATIENCE };
        Self { bridge: Bridge::between(client, server, terms, now).unwrap(), now }
    }

    fn client(&mut self, message: &Value) -> Heard {
        heard(self.bridge.of_client(message.to_string().as_bytes(), self.now))
    }

    fn server(&mut self, message: &Value) -> Heard {
        heard(self.bridge.of_server(message.to_string().as_bytes(), self.now))
    }

    /// A client's request that the server answers, and what the client hears.
    fn asks(&mut self, request: &Value, result: &Value) -> Value {
        let passed = self.client(request).at_server();
        self.server(&answer(&passed, result)).at_client()
    }
}

impl Heard {
    /// The one line for the client, where there is none for the server.
    fn at_client(self) -> Value {
        assert_eq!((self.client.len(), &*self.server), (1, [].as_slice()), "{:?}", self.client);
        self.client.into_iter().next().unwrap()
    }

    fn at_server(self) -> Value {
        assert_eq!((self.server.len(), &*self.client), (1, [].as_slice()), "{:?}", self.server);
        self.server.into_iter().next().unwrap()
    }

    fn nothing(self) {
        assert_eq!((&*self.client, &*self.server), ([].as_slice(), [].as_slice()));
    }
}

fn heard(step: Step) -> Heard {
    let read = |lines: Vec<Vec<u8>>| {
        lines
            .iter()
            .inspect(|line| assert!(!line.contains(&b'\n')))
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    };
    Heard { client: read(step.to_client), server: read(step.to_server) }
}

fn request(id: impl Into<Value>, method: &str, params: impl Into<Value>) -> Value {
    let (id, params) = (id.into(), params.into());
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn notification(method: &str, params: impl Into<Value>) -> Value {
    let params = params.into();
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

fn answer(request: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": result })
}

fn refusal(request: &Value, code: i64, message: &str) -> Value {
    json!({ "jsonrpc": "2.0", "id": request["id"], "error": { "code": code, "message": message } })
}

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// A modern request.
fn modern(id: impl Into<Value>, method: &str, params: Value) -> Value {
    modern_of(id, method, params, json!({}))
}

/// Of a client with those capabilities.
fn modern_of(id: impl Into<Value>, method: &str, mut params: Value, capabilities: Value) -> Value {
    params["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
    params["_meta"]["io.modelcontextprotocol/clientInfo"] =
        json!({ "name": "new", "version": "1" });
    params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = capabilities;
    request(id, method, params)
}

/// A modern client that has met a legacy server with all there is.
fn met() -> Talk {
    met_by(b"")
}

fn met_by(binding: &[u8]) -> Talk {
    let mut talk = Talk::with(Era::Modern, Era::Legacy, binding);
    let hello = talk.client(&modern("first", "server/discover", json!({}))).at_server();
    let after = talk.server(&answer(&hello, &initialized()));
    assert_eq!((after.client.len(), after.server.len()), (1, 1));
    talk
}

fn initialized() -> Value {
    json!({
        "protocolVersion": "2025-06-18",
        "capabilities": {
            "tools": { "listChanged": true },
            "resources": { "subscribe": true },
            "logging": {},
            "tasks": {},
        },
        "serverInfo": { "name": "old", "version": "0" },
        "instructions": "be kind",
    })
}

#[test]
fn sides_of_one_era_need_no_bridge() {
    for era in [Era::Legacy, Era::Modern] {
        let server_version = String::new();
        let terms = Terms { server_version, binding: Vec::new(), key: [0; 32], patience: PATIENCE };
        assert!(Bridge::between(era, era, terms, Instant::now()).is_none());
    }
}

#[test]
fn a_client_tells_its_era_by_its_first_request() {
    let era = |message: &Value| Era::of_first(message.to_string().as_bytes());
    assert_eq!(era(&request(1, "initialize", json!({}))), Some(Era::Legacy));
    assert_eq!(era(&request(1, "server/discover", json!({}))), Some(Era::Modern));
    assert_eq!(era(&modern(1, "tools/list", json!({}))), Some(Era::Modern));
    assert_eq!(era(&request(1, "ping", json!({}))), None);
    assert_eq!(era(&notification("initialize", json!({}))), None);
    assert_eq!(Era::of_first(b"\xff hello"), None);
}
