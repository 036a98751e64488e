//! MCP Inspector's command: one process for each method, and its answer as it prints it.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::INSPECTOR;
use super::place::Place;
use super::row::{Era, Peer};
use super::step::Step;
use crate::packages::Npm;

/// What it is asked to do: a name, and the method with its arguments.
type Method = (&'static str, &'static [&'static str]);

const ANSWERED: [Method; 11] = [
    ("tools/list", &["tools/list"]),
    ("tools/call test_simple_text", &["tools/call", "--tool-name", "test_simple_text"]),
    (
        "tools/call test_multiple_content_types",
        &["tools/call", "--tool-name", "test_multiple_content_types"],
    ),
    (
        "tools/call test_custom_header",
        &["tools/call", "--tool-name", "test_custom_header", "--tool-arg", "region=eu"],
    ),
    (
        "tools/call test_tool_with_progress",
        &["tools/call", "--tool-name", "test_tool_with_progress"],
    ),
    ("tools/call test_error_handling", &["tools/call", "--tool-name", "test_error_handling"]),
    ("resources/list", &["resources/list"]),
    ("resources/templates/list", &["resources/templates/list"]),
    ("resources/read test://static-text", &["resources/read", "--uri", "test://static-text"]),
    ("prompts/list", &["prompts/list"]),
    (
        "prompts/get test_prompt_with_arguments",
        &[
            "prompts/get",
            "--prompt-name",
            "test_prompt_with_arguments",
            "--prompt-args",
            "arg1=1",
            "arg2=2",
        ],
    ),
];

/// The modern era has no such method.
const LEGACY: Method = ("logging/setLevel", &["logging/setLevel", "--log-level", "info"]);

/// What is not there: how that is told counts as the answer.
const REFUSED: [Method; 2] = [
    ("tools/call of none", &["tools/call", "--tool-name", "test_none"]),
    ("resources/read of none", &["resources/read", "--uri", "test://none"]),
];

/// How long it waits for a server, in milliseconds: servers start in VMs, which may be emulated.
const PATIENCE: &str = "60000";

pub(super) struct Inspector<'a> {
    name: String,
    npm: &'a Npm,
}

impl<'a> Inspector<'a> {
    pub(super) fn new(npm: &'a Npm) -> Self {
        let (package, version) = INSPECTOR;
        Self { name: format!("`{package}` {version}"), npm }
    }

    /// With a home of its own: it keeps what it is told there.
    fn command(&self, place: &Place, era: Era, home: &TempDir) -> Command {
        let mut command = Command::new(&self.npm.node);
        command
            .arg(self.npm.file("@modelcontextprotocol/inspector/clients/launcher/build/index.js"));
        command.args(["--cli", "--connect-timeout", PATIENCE, "--format", "json"]);
        command.args(["--protocol-era", if era == Era::Modern { "modern" } else { "legacy" }]);
        command.env("HOME", home.path()).stdin(Stdio::null());
        match place {
            Place::Command { argv, environment } => {
                for (name, value) in environment {
                    command.args(["-e", &format!("{name}={}", value.display())]);
                }
                command.args(argv);
            }
            Place::Address { url, token } => {
                command.args(["--transport", "http", "--server-url", url]);
                if let Some(token) = token {
                    command.args(["--header", &format!("Authorization: Bearer {token}")]);
                }
            }
        }
        command
    }
}

impl Peer for Inspector<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn eras(&self) -> &[Era] {
        &[Era::Legacy, Era::Modern]
    }

    fn meet(&self, place: &Place, era: Era) -> Result<Vec<Step>> {
        let home = tempfile::tempdir()?;
        let run = |(name, method): &Method| {
            let mut command = self.command(place, era, &home);
            let output = command.arg("--method").args(*method).output().context("start Node")?;
            Ok((*name, output))
        };
        let legacy = (era == Era::Legacy).then_some(&LEGACY);
        let answered = ANSWERED.iter().chain(legacy).map(run);
        let answered = answered.map(|ran| ran.map(|(name, output)| step(name, &output)));
        let refused = REFUSED.iter().map(run);
        let refused = refused.map(|ran| ran.map(|(name, output)| refusal(name, &output)));
        answered.chain(refused).collect()
    }
}

fn step(name: &str, output: &Output) -> Step {
    match serde_json::from_slice::<Value>(&output.stdout) {
        Ok(answer) => Step::answer(name, answer),
        Err(_) => Step::failed(name, &why(&output.stderr)),
    }
}

/// The same of what is to be refused.
fn refusal(name: &str, output: &Output) -> Step {
    match output.status.success() {
        true => Step::failed(name, "it was not refused"),
        false => Step::answer(name, json!({ "refused": why(&output.stderr) })),
    }
}

/// Its last words, out of the JSON that they may be in.
fn why(stderr: &[u8]) -> String {
    let stderr = String::from_utf8_lossy(stderr);
    let last = stderr.trim().lines().last().unwrap_or("it says nothing");
    let told: Option<Value> = serde_json::from_str(last).ok();
    let told = told.as_ref().and_then(|told| told.pointer("/error/message")?.as_str());
    told.unwrap_or(last).to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn ended(code: i32, stdout: &str, stderr: &str) -> Output {
        // As a process's status has it.
        let status = ExitStatus::from_raw(code << 8);
        Output { status, stdout: stdout.into(), stderr: stderr.into() }
    }

    #[test]
    fn an_answer_is_the_json_that_is_printed() {
        assert_eq!(step("a", &ended(0, "{\"b\":1}", "")), Step::answer("a", json!({ "b": 1 })));
    }

    #[test]
    fn what_fails_says_why_in_its_last_line() {
        let told = "a warning\n{\"error\":{\"code\":\"x\",\"message\":\"not found\"}}\n";
        let failed = ended(1, "", told);
        assert_eq!(step("a", &failed), Step::failed("a", "not found"));
        let refused = Step::answer("a", json!({ "refused": "not found" }));
        assert_eq!(refusal("a", &failed), refused);
        assert_eq!(step("a", &ended(1, "", "broken")), Step::failed("a", "broken"));
    }

    #[test]
    fn an_answer_where_there_should_be_none_is_a_failure() {
        assert!(!refusal("a", &ended(0, "{}", "")).is_answered());
    }
}
