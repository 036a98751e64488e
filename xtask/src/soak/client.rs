//! A client of the gateway's, of either era, whose requests may be open beside each other.

use std::io::BufReader;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use ureq::http::{Method, Request, Response, StatusCode, request};
use ureq::{Agent, Body};

use super::ledger::{Expected, Kind, Ledger};
use super::mark::Mark;
use super::messages;
use crate::servers::Soak;

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";
const LEGACY: &str = "2025-11-25";
const MODERN: &str = "2026-07-28";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Era {
    Legacy,
    Modern,
}

/// Where the gateway is, and what it asks for.
pub(super) struct Door {
    pub(super) url: String,
    pub(super) token: String,
}

pub(super) struct Client<'a> {
    pub(super) number: usize,
    door: &'a Door,
    era: Era,
    agent: Agent,
    /// Of the legacy era.
    session: String,
    ids: AtomicU64,
    pub(super) ledger: Ledger,
}

impl<'a> Client<'a> {
    /// No answer is waited for longer than the patience.
    pub(super) fn open(door: &'a Door, number: usize, patience: Duration) -> Result<Self> {
        let era = if number.is_multiple_of(2) { Era::Modern } else { Era::Legacy };
        let mut client = Self {
            number,
            door,
            era,
            agent: agent(patience),
            session: String::new(),
            ids: AtomicU64::new(1),
            ledger: Ledger::of(&format!("client {number} ({})", revision(era))),
        };
        if era == Era::Legacy {
            client.begin().context("begin a session")?;
        }
        Ok(client)
    }

    fn begin(&mut self) -> Result<()> {
        let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
            "protocolVersion": LEGACY, "capabilities": {},
            "clientInfo": { "name": "soak", "version": "0" },
        } });
        let response = self.post(&hello)?;
        let session = header(&response, SESSION);
        let answer = only(response)?;
        ensure!(
            answer["result"]["protocolVersion"] == LEGACY,
            "initialize was answered by {answer}"
        );
        self.session = session;
        let begun =
            self.post(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))?;
        ensure!(
            begun.status() == StatusCode::ACCEPTED,
            "a notification has status {}",
            begun.status()
        );
        Ok(())
    }

    /// The names of all tools.
    pub(super) fn tools(&self) -> Result<Vec<String>> {
        let answer = only(self.post(&self.request(self.next(), "tools/list", json!({})))?)?;
        let tools = answer["result"]["tools"].as_array();
        let tools = tools.with_context(|| format!("a list was answered by {answer:.200}"))?;
        Ok(tools.iter().filter_map(|tool| Some(tool["name"].as_str()?.to_owned())).collect())
    }

    /// Until its answer has come and nothing comes after it. What came is in the ledger.
    pub(super) fn call(
        &self,
        server: &str,
        soak: &Soak,
        mark: Mark,
        work: &Path,
    ) -> Result<Duration> {
        let lent = mark.lend(&soak.arguments, work)?;
        let arguments: Value = serde_json::from_str(&mark.fill(&soak.arguments))
            .with_context(|| format!("read the arguments of {server}"))?;
        let params = json!({ "name": named(server, soak), "arguments": arguments });
        let id = self.next();
        let request = self.request(id, "tools/call", params);
        let holds = mark.fill(&soak.answer);
        self.ledger.ask(id, Expected { server: server.to_owned(), holds, fails: soak.fails });
        let begin = Instant::now();
        if let Err(error) = self.ask(id, &request) {
            self.ledger.fail(id, &format!("{error:#}"));
        }
        self.ledger.over(id);
        drop(lent);
        Ok(begin.elapsed())
    }

    fn ask(&self, id: u64, request: &Value) -> Result<()> {
        self.hear(Some(id), self.post(request)?)
    }

    /// What belongs to no request, until the session ends. There is nothing of the kind in the modern era.
    pub(super) fn listen(&self, longest: Duration) {
        if self.era == Era::Legacy {
            let said = self.said(&agent(longest), Method::GET);
            self.note("its stream", said.and_then(|response| self.hear(None, response)));
        }
    }

    pub(super) fn leave(&self) {
        if self.era == Era::Legacy {
            let left = self.said(&self.agent, Method::DELETE).and_then(|left| {
                let status = left.status();
                ensure!(status.is_success(), "status {status}");
                Ok(())
            });
            self.note("the end of its session", left);
        }
    }

    /// What was answered to a request without a message.
    fn said(&self, agent: &Agent, method: Method) -> Result<Response<Body>> {
        Ok(agent.run(self.head(method, &Value::Null).body(())?)?)
    }

    fn note(&self, what: &str, ended: Result<()>) {
        if let Err(error) = ended {
            self.ledger.fault(Kind::Failed, &format!("{what}: {error:#}"));
        }
    }

    fn hear(&self, asked: Option<u64>, response: Response<Body>) -> Result<()> {
        let (status, content_type) = (response.status(), header(&response, "content-type"));
        let mut body = response.into_body();
        if status != StatusCode::OK {
            let text = body.read_to_string().unwrap_or_default();
            anyhow::bail!("status {status}: {text:.300}");
        }
        let body = BufReader::new(body.into_reader());
        messages::each(&content_type, body, |message| self.ledger.hear(asked, &message))
    }

    fn next(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    fn request(&self, id: u64, method: &str, mut params: Value) -> Value {
        if self.era == Era::Modern {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
            });
        }
        json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
    }

    fn post(&self, message: &Value) -> Result<Response<Body>> {
        Ok(self.agent.run(self.head(Method::POST, message).body(message.to_string())?)?)
    }

    /// What a request says before its message.
    fn head(&self, method: Method, message: &Value) -> request::Builder {
        let head = Request::builder()
            .method(method)
            .uri(&self.door.url)
            .header("authorization", format!("Bearer {}", self.door.token))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream");
        match self.era {
            Era::Modern => told(head.header(VERSION, MODERN), message),
            Era::Legacy if self.session.is_empty() => head,
            Era::Legacy => head.header(VERSION, LEGACY).header(SESSION, &self.session),
        }
    }
}

/// What the modern era says of a message in its headers, too.
fn told(head: request::Builder, message: &Value) -> request::Builder {
    let told = [("mcp-method", &message["method"]), ("mcp-name", &message["params"]["name"])];
    let told = told.into_iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
    told.fold(head, |head, (name, value)| head.header(name, value))
}

/// The gateway is on this machine: no proxy.
fn agent(patience: Duration) -> Agent {
    let config = Agent::config_builder().timeout_global(Some(patience)).proxy(None);
    config.http_status_as_error(false).max_idle_connections_per_host(16).build().new_agent()
}

/// A tool, among those of all servers.
pub(super) fn named(server: &str, soak: &Soak) -> String {
    format!("{server}__{}", soak.tool)
}

pub(super) fn revision(era: Era) -> &'static str {
    match era {
        Era::Legacy => LEGACY,
        Era::Modern => MODERN,
    }
}

fn header(response: &Response<Body>, name: &str) -> String {
    let value = response.headers().get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// The one message of an answer.
fn only(response: Response<Body>) -> Result<Value> {
    let (status, content_type) = (response.status(), header(&response, "content-type"));
    ensure!(status == StatusCode::OK, "status {status}");
    let mut messages = Vec::new();
    let body = BufReader::new(response.into_body().into_reader());
    messages::each(&content_type, body, |message| messages.push(message))?;
    let answer = messages.into_iter().find(|message| message.get("method").is_none());
    answer.context("no answer came")
}
