//! The servers that are tried, as `xtask/servers.toml` lists them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Catalogue {
    pub(super) servers: Vec<Server>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) name: String,
    /// For people: npm, PyPI, crates.io, OCI, MCPB.
    pub(super) from: String,
    /// A shell script that makes what is added, in a folder of its own.
    #[serde(default)]
    pub(super) prepare: Option<String>,
    /// A program in that folder that is needed while the server is tried, such as a registry.
    #[serde(default)]
    pub(super) serve: Option<Vec<String>>,
    /// What follows `osvm mcp add NAME`. `{work}` is a folder with a git repository, `{made}` that of the script.
    pub(super) add: Vec<String>,
    pub(super) tool: String,
    #[serde(default = "nothing")]
    pub(super) arguments: String,
    /// What its answer must hold.
    pub(super) answer: String,
    /// For people, where something needs to be said.
    #[serde(default)]
    pub(super) note: String,
}

fn nothing() -> String {
    "{}".to_owned()
}

impl Catalogue {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        toml_edit::de::from_str(&text).with_context(|| format!("read {}", path.display()))
    }
}

impl Server {
    /// As a user would type it.
    pub(super) fn command_line(&self) -> String {
        let words = self
            .add
            .iter()
            .map(|word| shlex::try_quote(word).map_or_else(|_| word.clone(), Into::into));
        words.collect::<Vec<_>>().join(" ").trim_start_matches("-- ").to_owned()
    }
}
