//! Programs that start MCP servers and keep them in a file of their own: where that file is, which servers stand in it,
//! and changes to one of its entries that leave every other byte as it was. No file is opened here.
//!
//! ```text
//! text ── document (JSON with comments) ── servers (what stands there)
//!                 │                      └ mask (as it may be shown)
//!                 └ edit ── splice ── text with one entry changed
//! ```

mod document;
mod edit;
mod error;
mod json;
mod mask;
mod references;
mod servers;
mod splice;

use std::fmt;
use std::str::FromStr;

pub use document::{ClientFile, MAX};
pub use edit::Start;
pub use error::{ClientFileError, Fault};
pub use references::{refers, with_folders};
pub use servers::{Found, Listed, Place, Spot, Stdio};

use crate::ChoiceError;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    ClaudeDesktop,
    ClaudeCode,
    Cursor,
    VsCode,
    Windsurf,
    Zed,
    Gemini,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    Linux,
    MacOs,
}

/// What is known of a client. Paths are below the user's home.
struct Facts {
    client: Client,
    name: &'static str,
    /// Its own folder, which is there when it is installed: on Linux, on macOS.
    folder: [&'static str; 2],
    /// Within that folder.
    file: &'static str,
    /// The key of the object whose keys are servers.
    key: &'static str,
    /// What it wants in an entry beside command and arguments.
    more: &'static [(&'static str, &'static str)],
}

const fn facts(
    client: Client,
    name: &'static str,
    folder: [&'static str; 2],
    file: &'static str,
) -> Facts {
    Facts { client, name, folder, file, key: "mcpServers", more: &[] }
}

const CLAUDE: [&str; 2] = [".config/Claude", "Library/Application Support/Claude"];
const CODE: [&str; 2] = [".config/Code", "Library/Application Support/Code"];

static TABLE: [Facts; 7] = [
    facts(Client::ClaudeDesktop, "claude-desktop", CLAUDE, "claude_desktop_config.json"),
    // Beside its folder, not in it.
    facts(Client::ClaudeCode, "claude-code", [".claude"; 2], "../.claude.json"),
    facts(Client::Cursor, "cursor", [".cursor"; 2], "mcp.json"),
    Facts {
        key: "servers",
        more: &[("type", "stdio")],
        ..facts(Client::VsCode, "vscode", CODE, "User/mcp.json")
    },
    facts(Client::Windsurf, "windsurf", [".codeium/windsurf"; 2], "mcp_config.json"),
    Facts {
        key: "context_servers",
        more: &[("source", "custom")],
        ..facts(Client::Zed, "zed", [".config/zed"; 2], "settings.json")
    },
    facts(Client::Gemini, "gemini", [".gemini"; 2], "settings.json"),
];

/// Keys under which files of any client have their servers, the last one in VS Code's older settings.
const KEYS: [&[&str]; 4] =
    [&["mcpServers"], &["servers"], &["context_servers"], &["mcp", "servers"]];

impl Client {
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|facts| facts.client)
    }

    pub fn as_str(self) -> &'static str {
        self.facts().name
    }

    /// The folder that is there when the client is installed, below the user's home.
    pub fn folder(self, platform: Platform) -> &'static str {
        self.facts().folder[platform as usize]
    }

    /// Its file, below the user's home.
    pub fn file(self, platform: Platform) -> String {
        let Facts { file, .. } = self.facts();
        match file.strip_prefix("../") {
            Some(beside) => beside.to_owned(),
            None => format!("{}/{file}", self.folder(platform)),
        }
    }

    /// Where its servers stand, of which those of one project only for that project.
    pub fn places(self, project: Option<&str>) -> Vec<Place> {
        let mut places = vec![self.place()];
        if self == Self::ClaudeCode {
            places.extend(project.map(of_project));
        }
        places
    }

    /// Where a new server is put.
    pub fn place(self) -> Place {
        vec![self.facts().key.to_owned()]
    }

    /// Keys of an entry beside its command and arguments.
    pub fn more(self) -> &'static [(&'static str, &'static str)] {
        self.facts().more
    }

    fn facts(self) -> &'static Facts {
        TABLE.iter().find(|facts| facts.client == self).expect("each client is in the table")
    }
}

impl ClientFile<'_> {
    /// Where servers stand in a file of nobody knows which client.
    pub fn places(&self, project: Option<&str>) -> Vec<Place> {
        let owned = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Place>();
        let is_there = |place: &Place| self.at(place).is_ok_and(|object| object.is_some());
        let of_file = KEYS.into_iter().map(owned).find(is_there);
        let of_project = project.map(of_project).filter(is_there);
        let default = || owned(KEYS[0]);
        let first = of_file.unwrap_or_else(default);
        [first].into_iter().chain(of_project).collect()
    }
}

/// In Claude Code's own file.
fn of_project(folder: &str) -> Place {
    ["projects", folder, "mcpServers"].map(str::to_owned).to_vec()
}

impl FromStr for Client {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let given = || ChoiceError {
            given: text.to_owned(),
            answers: TABLE.iter().map(|facts| facts.name).collect(),
        };
        TABLE.iter().find(|facts| facts.name == text).map(|facts| facts.client).ok_or_else(given)
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests;
