//! The servers that are tried, as `xtask/servers.toml` lists them.

use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::checkout;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Catalogue {
    pub(crate) servers: Vec<Server>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) name: String,
    /// For people: npm, PyPI, crates.io, OCI, MCPB.
    pub(crate) from: String,
    /// A shell script that makes what is added, in a folder of its own.
    #[serde(default)]
    pub(crate) prepare: Option<String>,
    /// A program in that folder that is needed while the server is tried, such as a registry.
    #[serde(default)]
    pub(crate) serve: Option<Vec<String>>,
    /// What follows `osvm mcp add NAME`. `{work}` is a folder with a git repository, `{made}` that of the script.
    pub(crate) add: Vec<String>,
    pub(crate) tool: String,
    #[serde(default = "nothing")]
    pub(crate) arguments: String,
    /// What its answer must hold.
    pub(crate) answer: String,
    /// For people, where something needs to be said.
    #[serde(default)]
    pub(crate) note: String,
    /// What many clients ask at once, where its answer can be told from any other.
    #[serde(default)]
    pub(crate) soak: Option<Soak>,
}

/// A call that is made again and again, with a mark that is its own.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Soak {
    pub(crate) tool: String,
    pub(crate) arguments: String,
    /// What its answer must hold.
    pub(crate) answer: String,
    /// Whether that answer is an error of the tool's, such as one that names what there is none of.
    #[serde(default)]
    pub(crate) fails: bool,
}

fn nothing() -> String {
    "{}".to_owned()
}

impl Catalogue {
    pub(crate) fn read() -> Result<Self> {
        let path = checkout().join("xtask/servers.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        toml_edit::de::from_str(&text).with_context(|| format!("read {}", path.display()))
    }
}

impl Server {
    /// As a user would type it.
    pub(crate) fn command_line(&self) -> String {
        let words = self
            .add
            .iter()
            .map(|word| shlex::try_quote(word).map_or_else(|_| word.clone(), Into::into));
        words.collect::<Vec<_>>().join(" ").trim_start_matches("-- ").to_owned()
    }
}
