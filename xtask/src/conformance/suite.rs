//! The suite: brought once, run per revision, and what it found.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::packages::{NODE, Npm};

/// The revisions that are asked about: the last with sessions, and the first without.
pub(super) const REVISIONS: [&str; 2] = ["2025-11-25", "2026-07-28"];

const VERSION: &str = "0.2.0-alpha.12";

/// How long one scenario may take, in milliseconds: servers start in VMs, which may be emulated.
const PATIENCE: &str = "240000";

/// One thing that a scenario looks at.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Check {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) error_message: Option<String>,
    /// Whatever it was about.
    #[serde(default)]
    details: Value,
}

impl Check {
    pub(super) fn failed(&self) -> bool {
        self.status == "FAILURE"
    }

    /// The reason for a failure or a warning.
    pub(super) fn why(&self) -> String {
        match (&self.error_message, self.details["method"].as_str()) {
            (Some(why), _) => why.clone(),
            (None, Some(method)) => format!("in the client's {method}"),
            (None, None) => "no reason given".to_owned(),
        }
    }
}

/// By scenario.
pub(super) type Found = BTreeMap<String, Vec<Check>>;

pub(super) struct Suite {
    node: PathBuf,
    script: PathBuf,
}

/// For the page.
pub(super) fn versions() -> [String; 2] {
    [format!("suite {VERSION}"), format!("Node.js {NODE}")]
}

impl Suite {
    /// Brings it, unless it is here.
    pub(super) fn bring() -> Result<Self> {
        let folder = format!("conformance-{VERSION}-{NODE}");
        let npm = Npm::bring(&folder, &[("@modelcontextprotocol/conformance", VERSION)])?;
        let script = npm.file("@modelcontextprotocol/conformance/dist/index.js");
        Ok(Self { node: npm.node, script })
    }

    /// The server scenarios of the revision: all of them, or one.
    pub(super) fn server(&self, url: &str, revision: &str, only: Option<&str>) -> Result<Found> {
        let results = tempfile::tempdir()?;
        let mut suite = self.command("server", revision, results.path());
        match only {
            None => suite.args(["--suite", "all", "--url", url]),
            Some(scenario) => suite.args(["--scenario", scenario, "--url", url]),
        };
        // How it exits says less than what it writes.
        suite.stdout(Stdio::null()).stderr(Stdio::null());
        suite.status().context("run the suite")?;
        found(results.path(), "server-")
    }

    /// One client scenario of the revision. The client's address of the server comes last in its command.
    pub(super) fn client(&self, command: &mut Command, revision: &str) -> Result<Found> {
        let results = tempfile::tempdir()?;
        let mut suite = self.command("client", revision, results.path());
        suite.args(command.get_args()).stdout(Stdio::null()).stderr(Stdio::null());
        for (name, value) in command.get_envs() {
            suite.env(name, value.unwrap_or_default());
        }
        suite.status().context("run the suite")?;
        found(results.path(), "")
    }

    fn command(&self, side: &str, revision: &str, results: &Path) -> Command {
        let mut command = Command::new(&self.node);
        command.arg(&self.script).args([side, "--spec-version", revision, "--timeout", PATIENCE]);
        command.arg("--output-dir").arg(results).stdin(Stdio::null());
        command
    }
}

/// Each scenario has left a folder with its name and the time.
fn found(results: &Path, before: &str) -> Result<Found> {
    let mut found = Found::new();
    for folder in fs::read_dir(results)? {
        let folder = folder?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let Some(scenario) = scenario(&name, before) else { continue };
        let checks = folder.join("checks.json");
        let text =
            fs::read_to_string(&checks).with_context(|| format!("read {}", checks.display()))?;
        found.insert(scenario.to_owned(), serde_json::from_str(&text)?);
    }
    Ok(found)
}

/// `server-NAME-2026-07-28T12-00-00-000Z`.
fn scenario<'a>(folder: &'a str, before: &str) -> Option<&'a str> {
    const DAY: usize = "-2026-07-28".len();
    let end = folder.rfind('T')?.checked_sub(DAY)?;
    folder.get(..end)?.strip_prefix(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_its_scenario() {
        let folder = "server-json-schema-2020-12-2026-11-28T01-02-03-004Z";
        assert_eq!(scenario(folder, "server-"), Some("json-schema-2020-12"));
        assert_eq!(scenario("tools_call-2026-11-28T01-02-03-004Z", ""), Some("tools_call"));
        assert_eq!(scenario("else", ""), None);
    }
}
