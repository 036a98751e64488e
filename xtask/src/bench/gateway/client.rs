//! A client over HTTP, as assistants are.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use ureq::Agent;

use crate::bench::pipe::{call, initialize};

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
        let (_, answer) = self.post(&call(self.calls, "text", &text))?;
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
