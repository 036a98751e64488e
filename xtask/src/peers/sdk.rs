//! The SDKs, each with a script of ours that does what clients do.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::place::Place;
use super::row::{Era, Peer};
use super::step::{self, Step};
use super::{PYTHON, TYPESCRIPT_1, TYPESCRIPT_2};
use crate::packages::{Npm, Pypi};

/// That the script came to its end.
const END: &str = "end";

pub(super) struct Sdk<'a> {
    name: String,
    eras: &'static [Era],
    /// Whose major version, for a script that speaks to more than one.
    major: &'static str,
    start: Box<dyn Fn() -> Command + 'a>,
}

impl<'a> Sdk<'a> {
    pub(super) fn typescript_1(npm: &'a Npm) -> Result<Self> {
        Self::typescript(npm, TYPESCRIPT_1, "1", &[Era::Legacy])
    }

    pub(super) fn typescript_2(npm: &'a Npm) -> Result<Self> {
        Self::typescript(npm, TYPESCRIPT_2, "2", &[Era::Legacy, Era::Modern])
    }

    fn typescript(
        npm: &'a Npm,
        (package, version): (&str, &str),
        major: &'static str,
        eras: &'static [Era],
    ) -> Result<Self> {
        let script = npm.script("typescript.mjs", include_str!("typescript.mjs"))?;
        let start = Box::new(move || with(Command::new(&npm.node), &script));
        Ok(Self { name: format!("`{package}` {version}"), eras, major, start })
    }

    pub(super) fn python(pypi: &'a Pypi) -> Result<Self> {
        let (package, version) = PYTHON;
        let script = pypi.script("peer.py", include_str!("python.py"))?;
        let start = Box::new(move || with(pypi.python(), &script));
        let eras = &[Era::Legacy, Era::Modern];
        Ok(Self { name: format!("`{package}` {version} (PyPI)"), eras, major: "2", start })
    }
}

fn with(mut command: Command, script: &PathBuf) -> Command {
    command.arg(script);
    command
}

impl Peer for Sdk<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn eras(&self) -> &[Era] {
        self.eras
    }

    fn meet(&self, place: &Place, era: Era) -> Result<Vec<Step>> {
        let mut command = (self.start)();
        if let Place::Command { environment, .. } = place {
            command.envs(environment.iter().cloned());
        }
        command.arg(self.task(place, era).to_string()).stdin(Stdio::null());
        let output = command.output().context("start a client's script")?;
        let mut steps = step::of_lines(&String::from_utf8(output.stdout)?)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        steps.push(match output.status.success() {
            true => Step::answer(END, Value::Null),
            false => Step::failed(END, stderr.trim().lines().last().unwrap_or("it says nothing")),
        });
        Ok(steps)
    }
}

impl Sdk<'_> {
    fn task(&self, place: &Place, era: Era) -> Value {
        let modern = era == Era::Modern;
        match place {
            Place::Command { argv, .. } => {
                json!({ "sdk": self.major, "modern": modern, "command": argv })
            }
            Place::Address { url, token } => {
                json!({ "sdk": self.major, "modern": modern, "url": url, "token": token })
            }
        }
    }
}
