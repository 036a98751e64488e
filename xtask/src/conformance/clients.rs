//! The client scenarios, with `osvm mcp call` as the client.
//!
//! The suite's servers speak HTTP on this host; osvm's are programs in VMs. So the program in the VM is a relay, which
//! sends each message on and brings each back as it is. What the suite says of HTTP would be said of the relay, and
//! those scenarios are left out.

use std::env::current_exe;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::suite::{Check, REVISIONS, Suite};
use crate::fixture::Fixture;
use crate::stage::{Stage, said};

const SESSIONS: &[&str] = &[REVISIONS[0]];
const STATELESS: &[&str] = &[REVISIONS[1]];

const NAME: &str = "relay";

/// Those that are tried, and the revisions that have them.
const TRIED: [(&str, &[&str]); 7] = [
    ("initialize", SESSIONS),
    ("tools_call", &REVISIONS),
    ("elicitation-sep1034-client-defaults", SESSIONS),
    ("request-metadata", STATELESS),
    ("sep-2322-client-request-state", STATELESS),
    ("json-schema-ref-no-deref", STATELESS),
    ("json-schema-2020-12-preservation", &REVISIONS),
];

/// Those that are not, and why.
pub(super) const LEFT_OUT: [(&str, &str); 4] = [
    ("`auth/*`", "OAuth: a server in a VM has no HTTP to be authorized for"),
    ("`sse-retry`", "how HTTP streams are taken up again: the relay's"),
    ("`http-*`", "headers of HTTP requests: the relay's"),
    ("`sep-2640-*`", "an extension, for clients that hand skills to a model"),
];

/// One scenario of one revision.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Outcome {
    pub(super) scenario: String,
    pub(super) revision: String,
    pub(super) checks: Vec<Check>,
}

pub(super) fn run(suite: &Suite, fixture: &Fixture, stage: &Stage) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    let this = current_exe().context("find this program")?;
    let (program, relay) = (stage.program().display(), fixture.image().display());
    let client = format!("{} conformance --program {program} --call {relay}", this.display());
    for (scenario, revisions) in TRIED {
        for revision in revisions {
            eprintln!("{revision}: {scenario}, by osvm mcp call");
            let mut command = Command::new("");
            command.args(["--scenario", scenario, "--command", &client]);
            stage.at_home(&mut command);
            let mut found = suite.client(&mut command, revision)?;
            let checks = found.remove(scenario).unwrap_or_default();
            let (scenario, revision) = (scenario.to_owned(), (*revision).to_owned());
            outcomes.push(Outcome { scenario, revision, checks });
        }
    }
    Ok(outcomes)
}

/// The client of one scenario, which the suite has started.
pub(super) struct Caller {
    program: PathBuf,
    relay: String,
    url: String,
    port: String,
}

impl Caller {
    pub(super) fn new(program: PathBuf, relay: &Path, url: &str) -> Result<Self> {
        let rest = url.strip_prefix("http://localhost:").context("the suite's server is local")?;
        let port = rest.split('/').next().unwrap_or(rest).to_owned();
        let url = format!("http://host.osvm.internal:{rest}");
        Ok(Self { program, relay: relay.display().to_string(), url, port })
    }

    /// Adds the relay to the suite's server, and does what the scenario wants to be done.
    pub(super) fn call(&self) -> Result<()> {
        let allowed = format!("host.osvm.internal:{}", self.port);
        let relay = ["--image", &self.relay, "--allow", &allowed];
        let command = ["--", "/conformance", "relay", &self.url];
        self.osvm(&[&["mcp", "add", NAME][..], &relay, &command].concat())?;
        let done = self.act();
        for args in [&["mcp", "microvm", "stop", NAME][..], &["mcp", "remove", NAME]] {
            // There may be none.
            let _ = self.osvm(args);
        }
        done
    }

    /// Lists the tools, and calls each with what it takes. One that fails is the scenario's to judge.
    fn act(&self) -> Result<()> {
        let tools = self.osvm(&["mcp", "tools", NAME, "--json"])?;
        let tools: Vec<Value> = serde_json::from_str(&tools)?;
        for tool in &tools {
            let name = tool["name"].as_str().context("a tool without a name")?;
            let arguments = match name {
                "add_numbers" => json!({ "a": 5, "b": 3 }),
                "json_schema_echo" => json!({ "schema": tools[0]["inputSchema"] }),
                "json_schema_2020_12_tool" | "lookup_user" => continue,
                _ => json!({}),
            };
            if let Err(error) = self.osvm(&["mcp", "call", NAME, name, &arguments.to_string()]) {
                eprintln!("{error:#}");
            }
        }
        Ok(())
    }

    fn osvm(&self, args: &[&str]) -> Result<String> {
        said(Command::new(&self.program).args(args))
    }
}
