//! Messages of standard input sent over Streamable HTTP, and what comes back written to standard output, each as it is:
//! so that a server which only speaks HTTP can be met by a client that only starts programs.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write, stdin, stdout};
use std::sync::{Arc, Mutex};
use std::thread;

use serde::Deserialize;
use ureq::{Agent, Body, http};

const EVENTS: &str = "text/event-stream";

/// What the headers of a message say of it, or what of an answer the next headers say.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Told {
    id: Option<serde_json::Value>,
    method: Option<String>,
    params: Inner,
    result: Inner,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Inner {
    name: Option<String>,
    uri: Option<String>,
    protocol_version: Option<String>,
    #[serde(rename = "_meta")]
    meta: Meta,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    #[serde(rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<String>,
}

struct Relay {
    url: String,
    agent: Agent,
    session: Mutex<Option<String>>,
    version: Mutex<Option<String>>,
}

/// Goes on until standard input ends and all answers are there.
pub(crate) fn run(url: &str) -> Result<(), Box<dyn Error>> {
    let agent = Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let (session, version) = (Mutex::default(), Mutex::default());
    let relay = Arc::new(Relay { url: url.to_owned(), agent, session, version });
    let mut asked = Vec::new();
    for line in stdin().lines() {
        let line = line?;
        let told: Told = serde_json::from_str(&line).unwrap_or_default();
        let is_request = told.id.is_some() && told.method.is_some();
        let relay = Arc::clone(&relay);
        // The session begins with its answer. What is not answered keeps its place in the order.
        if is_request && told.method.as_deref() != Some("initialize") {
            asked.push(thread::spawn(move || relay.send(&line, &told)));
            continue;
        }
        relay.send(&line, &told);
        if told.method.as_deref() == Some("notifications/initialized") {
            thread::spawn(move || relay.listen());
        }
    }
    asked.into_iter().for_each(|asked| drop(asked.join()));
    Ok(())
}

impl Relay {
    fn send(&self, message: &str, told: &Told) {
        if let Err(error) = self.try_send(message, told) {
            eprintln!("conformance: {}: {error}", told.method.as_deref().unwrap_or("an answer"));
        }
    }

    fn try_send(&self, message: &str, told: &Told) -> Result<(), Box<dyn Error>> {
        let mut request = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("Accept", format!("application/json, {EVENTS}"));
        let version = told.params.meta.version.clone().or_else(|| get(&self.version));
        for (name, value) in [
            ("Mcp-Session-Id", get(&self.session)),
            ("MCP-Protocol-Version", version),
            ("Mcp-Method", told.method.clone()),
            ("Mcp-Name", told.params.name.clone().or_else(|| told.params.uri.clone())),
        ] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let answer = request.send(message)?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(session) = header("Mcp-Session-Id") {
            set(&self.session, session);
        }
        self.receive(answer)
    }

    /// What a server says by itself comes on a stream of its own, where it has one; it ends with this program.
    fn listen(&self) {
        let mut request = self.agent.get(&self.url).header("Accept", EVENTS);
        for (name, value) in
            [("Mcp-Session-Id", get(&self.session)), ("MCP-Protocol-Version", get(&self.version))]
        {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let heard = request.call().map_err(Into::into).and_then(|answer| match answer.status() {
            http::StatusCode::OK => self.receive(answer),
            _ => Ok(()),
        });
        if let Err(error) = heard {
            eprintln!("conformance: listen: {error}");
        }
    }

    fn receive(&self, answer: http::Response<Body>) -> Result<(), Box<dyn Error>> {
        let kind = answer.headers().get("Content-Type").and_then(|kind| kind.to_str().ok());
        let is_stream = kind.is_some_and(|kind| kind.starts_with(EVENTS));
        let mut body = BufReader::new(answer.into_body().into_reader());
        if !is_stream {
            let mut text = String::new();
            body.read_to_string(&mut text)?;
            return self.deliver(&text);
        }
        let mut event = String::new();
        for line in body.lines() {
            let line = line?;
            match line.strip_prefix("data:") {
                Some(data) => event.push_str(data),
                None if line.is_empty() => self.deliver(&std::mem::take(&mut event))?,
                None => {}
            }
        }
        self.deliver(&event)
    }

    /// As one line: line ends in JSON stand between its parts, never in them.
    fn deliver(&self, message: &str) -> Result<(), Box<dyn Error>> {
        let message = message.replace(['\r', '\n'], " ");
        if message.trim().is_empty() {
            return Ok(());
        }
        let told: Told = serde_json::from_str(&message).unwrap_or_default();
        if let Some(version) = &told.result.protocol_version {
            set(&self.version, version);
        }
        let mut out = stdout().lock();
        writeln!(out, "{}", message.trim())?;
        Ok(out.flush()?)
    }
}

fn get(value: &Mutex<Option<String>>) -> Option<String> {
    value.lock().expect("nothing panics while holding it").clone()
}

fn set(value: &Mutex<Option<String>>, to: &str) {
    *value.lock().expect("nothing panics while holding it") = Some(to.to_owned());
}
