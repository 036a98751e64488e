//! Clients: over HTTP as assistants are, and over a server's pipes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use ureq::Agent;

const SESSION: &str = "mcp-session-id";

/// A session, over a connection that is kept.
pub(super) struct Client {
    agent: Agent,
    url: String,
    session: String,
    calls: u64,
}

impl Client {
    pub(super) fn open(url: &str) -> Result<Self> {
        let limit = Some(Duration::from_secs(60));
        let agent = Agent::config_builder().timeout_global(limit).build().new_agent();
        let mut client = Self { agent, url: url.to_owned(), session: String::new(), calls: 0 };
        let (session, answer) = client.post(&initialize())?;
        ensure!(answer.contains("protocolVersion"), "initialize was answered by {answer}");
        client.session = session;
        client.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        Ok(client)
    }

    pub(super) fn call(&mut self) -> Result<()> {
        self.calls += 1;
        let text = format!("call {}", self.calls);
        let (_, answer) = self.post(&call(self.calls, &text))?;
        ensure!(answer.contains(&text), "a call was answered by {answer}");
        Ok(())
    }

    fn post(&self, message: &Value) -> Result<(String, String)> {
        let mut request = self
            .agent
            .post(&self.url)
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        if !self.session.is_empty() {
            request = request.header(SESSION, &self.session);
        }
        let mut response = request.send(message.to_string())?;
        let session = response.headers().get(SESSION).and_then(|value| value.to_str().ok());
        let session = session.unwrap_or_default().to_owned();
        Ok((session, response.body_mut().read_to_string()?))
    }
}

/// A server's own streams.
pub(super) struct Pipe {
    stdin: ChildStdin,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    calls: u64,
}

impl Pipe {
    pub(super) fn open(child: &mut Child) -> Result<Self> {
        let stdin = child.stdin.take().context("its input is no pipe")?;
        let stdout = child.stdout.take().context("its output is no pipe")?;
        let mut pipe = Self { stdin, lines: BufReader::new(stdout).lines(), calls: 0 };
        pipe.say(&initialize())?;
        pipe.hear()?;
        pipe.say(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        Ok(pipe)
    }

    pub(super) fn call(&mut self) -> Result<()> {
        self.calls += 1;
        let text = format!("call {}", self.calls);
        self.say(&call(self.calls, &text))?;
        let answer = self.hear()?;
        ensure!(answer.contains(&text), "a call was answered by {answer}");
        Ok(())
    }

    fn say(&mut self, message: &Value) -> Result<()> {
        self.stdin.write_all(format!("{message}\n").as_bytes())?;
        Ok(self.stdin.flush()?)
    }

    fn hear(&mut self) -> Result<String> {
        Ok(self.lines.next().context("the server ended")??)
    }
}

fn initialize() -> Value {
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {},
        "clientInfo": { "name": "bench", "version": "0" },
    } })
}

fn call(id: u64, text: &str) -> Value {
    let params = json!({ "name": "echo", "arguments": { "text": text } });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params })
}
