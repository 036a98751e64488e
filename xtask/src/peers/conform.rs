//! mcp-conform, which knows the handshake's revisions, and is tried over stdio: it has no way to show a token.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::CONFORM;
use super::place::{Place, Way};
use super::row::{Era, Peer};
use super::step::{Step, numbered};
use crate::packages::Pypi;

/// How long a request may take, in seconds: servers start in VMs, which may be emulated.
const PATIENCE: &str = "60";

pub(super) struct Conform<'a> {
    name: String,
    pypi: &'a Pypi,
}

/// What it writes of a server.
#[derive(Deserialize)]
struct Report {
    checks: Vec<Check>,
    fatal_error: Option<String>,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    passed: bool,
    message: String,
}

impl<'a> Conform<'a> {
    pub(super) fn new(pypi: &'a Pypi) -> Self {
        let (package, version) = CONFORM;
        Self { name: format!("`{package}` {version} (PyPI)"), pypi }
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let Place::Command { argv, environment } = place else {
            anyhow::bail!("mcp-conform is tried over stdio");
        };
        let mut command = self.pypi.python();
        let words = argv.iter().map(String::as_str);
        let argv = shlex::try_join(words).context("quote a command")?;
        command.args(["-m", "mcp_probe", "server", "--format", "json", "--timeout", PATIENCE]);
        command.args(["--command", &argv]).envs(environment.iter().cloned());
        Ok(command)
    }
}

impl Peer for Conform<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn eras(&self) -> &[Era] {
        &[Era::Legacy]
    }

    fn ways(&self) -> &[Way] {
        &[Way::Stdio]
    }

    fn meet(&self, place: &Place, _: Era) -> Result<Vec<Step>> {
        let output = self.command(place)?.stdin(Stdio::null()).output().context("start Python")?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        // How it exits says less than what it writes.
        steps(&output.stdout)
            .with_context(|| format!("read mcp-conform's report: {}", stderr.trim()))
    }
}

fn steps(report: &[u8]) -> Result<Vec<Step>> {
    let report: Report = serde_json::from_slice(report)?;
    let step = |check: Check| match check.passed {
        true => Step::answer(&check.name, check.message.into()),
        false => Step::failed(&check.name, &check.message),
    };
    let ended = report.fatal_error.map(|why| Step::failed("end", &why));
    Ok(numbered(report.checks.into_iter().map(step).chain(ended).collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_check_of_a_report_is_a_step_and_so_is_what_ended_it() {
        let check = |passed| json!({ "name": "envelope", "passed": passed, "message": "said" });
        let report = json!({ "checks": [check(true), check(false)], "fatal_error": "closed" });
        let found = steps(report.to_string().as_bytes()).unwrap();
        let wanted = [
            Step::answer("envelope", json!("said")),
            Step::failed("envelope (2)", "said"),
            Step::failed("end", "closed"),
        ];
        assert_eq!(found, wanted);
        assert!(steps(b"Traceback").is_err());
    }
}
