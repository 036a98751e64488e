//! A server played by hand, one line at a time.

use std::time::Duration;

use osvm_mcp::{Client, ClientInfo, Limits, McpError};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};

/// Long enough for a loaded machine; no test waits for it unless it fails.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Peer {
    pub(crate) input: BufReader<ReadHalf<DuplexStream>>,
    pub(crate) output: WriteHalf<DuplexStream>,
}

/// A peer, and the streams of its client.
pub(crate) fn pair() -> (Peer, (ReadHalf<DuplexStream>, WriteHalf<DuplexStream>)) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (input, output) = tokio::io::split(near);
    (Peer { input: BufReader::new(input), output }, tokio::io::split(far))
}

pub(crate) fn info() -> ClientInfo {
    ClientInfo { name: "test".to_owned(), version: "1".to_owned() }
}

/// A client that met its server without incident.
pub(crate) async fn connected(limits: Limits) -> (Peer, Client) {
    let (mut peer, (reader, writer)) = pair();
    let (client, ()) =
        tokio::join!(Client::connect(reader, writer, info(), limits), peer.handshake());
    (peer, client.unwrap())
}

pub(crate) fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

pub(crate) async fn ask(client: &Client, method: &str) -> Result<Value, McpError> {
    let result = client.request(method, None, LONG).await?;
    Ok(serde_json::from_str(result.get()).unwrap())
}

impl Peer {
    pub(crate) async fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.input.read_line(&mut line).await.unwrap();
        line
    }

    /// The client's next message; `null` at its end.
    pub(crate) async fn read(&mut self) -> Value {
        let line = self.read_line().await;
        if line.is_empty() { Value::Null } else { serde_json::from_str(&line).unwrap() }
    }

    pub(crate) async fn expect(&mut self, method: &str) -> Value {
        let message = self.read().await;
        assert_eq!(message["method"], method, "{message}");
        message
    }

    pub(crate) async fn send(&mut self, line: &str) {
        self.output.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub(crate) async fn answer(&mut self, request: &Value, result: Value) {
        let message = json!({ "jsonrpc": "2.0", "id": request["id"], "result": result });
        self.send(&message.to_string()).await;
    }

    pub(crate) async fn refuse(&mut self, request: &Value, code: i64, message: &str, data: Value) {
        let error = json!({ "code": code, "message": message, "data": data });
        let message = json!({ "jsonrpc": "2.0", "id": request["id"], "error": error });
        self.send(&message.to_string()).await;
    }

    /// Expects a request and answers it.
    pub(crate) async fn serve(&mut self, method: &str, result: Value) -> Value {
        let request = self.expect(method).await;
        self.answer(&request, result).await;
        request
    }

    pub(crate) async fn handshake(&mut self) {
        let result = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": { "tools": {}, "prompts": {} },
            "serverInfo": { "name": "peer", "version": "0" },
        });
        self.serve("initialize", result).await;
        self.expect("notifications/initialized").await;
    }
}
