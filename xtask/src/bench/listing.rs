//! What a list of many registered servers costs, none of which runs.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use ureq::Agent;

use super::osvm::Osvm;
use super::table::{Figure, median};

/// What one list of them all may take, in milliseconds.
const LISTED: f64 = 50.0;
/// How long what a server has said may take to be kept.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first list of a gateway, and those after it.
pub(super) fn figures(osvm: &Osvm, count: usize, runs: usize) -> Result<Vec<Figure>> {
    register(osvm, count)?;
    let of_one = {
        let gateway = Gateway::start(osvm)?;
        let of_one = tools(&gateway.ask("servers/listed-0/mcp")?)?;
        kept(osvm)?;
        of_one
    };
    osvm.ok(&["mcp", "microvm", "stop", "--all"])?;
    let gateway = Gateway::start(osvm)?;
    let list = || {
        let begin = Instant::now();
        let text = gateway.ask("mcp")?;
        let took = begin.elapsed();
        let listed = tools(&text)?;
        ensure!(listed == count * of_one, "{listed} tools were listed of {count} times {of_one}");
        Ok(took)
    };
    let first = list()?;
    let later = (0..runs * 4).map(|_| list()).collect::<Result<Vec<_>>>()?;
    ensure!(osvm.vms()?.is_empty(), "a server was started");
    let figure = |which: &str, took| {
        let what = format!("{which} list of {count} servers, none running");
        Figure::millis(&what, took).at_most(LISTED)
    };
    Ok(vec![figure("a gateway's first", first), figure("a later", median(&later))])
}

fn register(osvm: &Osvm, count: usize) -> Result<()> {
    let path = osvm.home().join("isolation_config.toml");
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    for number in 0..count {
        writeln!(file, "\n[[servers]]\nid = \"listed-{number}\"")?;
    }
    Ok(())
}

/// Waits until a server's tools can be told without it.
fn kept(osvm: &Osvm) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        for file in fs::read_dir(osvm.home().join("manifests"))? {
            if fs::read_to_string(file?.path()).is_ok_and(|text| text.contains("tools/list")) {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("what a server has said was not kept within {} s", PATIENCE.as_secs())
}

/// Ended when dropped.
struct Gateway {
    process: Child,
    url: String,
    agent: Agent,
}

impl Gateway {
    fn start(osvm: &Osvm) -> Result<Self> {
        let mut command =
            osvm.command(&["mcp", "gateway", "--no-token", "--listen", "127.0.0.1:0"]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdout = process.stdout.take().context("its output is no pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let agent = Agent::config_builder().timeout_global(Some(PATIENCE)).build().new_agent();
        let url = line.trim_end().strip_prefix("listening on ").unwrap_or_default().to_owned();
        let gateway = Self { process, url, agent };
        ensure!(!gateway.url.is_empty(), "the gateway says {line:?}");
        Ok(gateway)
    }

    /// What a request for the tools is answered by.
    fn ask(&self, path: &str) -> Result<String> {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        });
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": { "_meta": meta } });
        let response = self
            .agent
            .post(format!("{}/{path}", self.url))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", "tools/list")
            .send(request.to_string())?;
        Ok(response.into_body().with_config().limit(64 << 20).read_to_string()?)
    }
}

/// How many there are.
fn tools(text: &str) -> Result<usize> {
    let answer: Value = serde_json::from_str(text)?;
    let tools = answer["result"]["tools"].as_array();
    Ok(tools.with_context(|| format!("a list was answered by {text:.200}"))?.len())
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
