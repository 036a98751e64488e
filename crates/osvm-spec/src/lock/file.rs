//! The lock file's text. TOML, like the configuration, but written by osvm alone and always in the same way:
//!
//! ```toml
//! osvm_lock = 1
//!
//! [servers.NAME]
//! image = "sha256:..."
//! origin = "npm:..."
//! pending = true              # or tools:
//!
//! [[servers.NAME.packages]]
//! name = "npm:..."
//! version = "1.2.3"
//! integrity = "sha512-..."
//!
//! [servers.NAME.tools.TOOL]
//! hash = "sha256:..."         # of the definition: what was changed by hand is noticed
//! definition = '{"description":...}'
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml_edit::{DocumentMut, Item, de, ser};

use super::{Definition, DefinitionError, Lock, Locked, Pin, Tools};
use crate::{Digest, ServerName};

/// Why a text is no lock file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LockError {
    #[error("lock file is over {} bytes", Lock::MAX_BYTES)]
    TooLong,
    #[error("lock file is damaged: {0}")]
    Syntax(String),
    #[error("file is no lock file: it has no osvm_lock")]
    NoVersion,
    #[error("lock file has version {found}, known is {known}", known = Lock::VERSION)]
    Version { found: i64 },
    #[error("lock file is damaged: server {0} has tools, and they are pending")]
    Pending(ServerName),
    #[error("lock file is damaged: server {server}, tool {tool:?}")]
    Tool { server: ServerName, tool: String, source: DefinitionError },
    #[error(
        "lock file is damaged: server {server}, tool {tool:?}: its definition is not the one of its hash"
    )]
    Hash { server: ServerName, tool: String },
    #[error(
        "lock file is damaged: server {server}, package {name:?}: its {what} is empty or has blanks or control characters"
    )]
    Pin { server: ServerName, name: String, what: &'static str },
}

const HEADER: &str = "\
# What you last accepted of each server. Written by osvm: `osvm mcp accept NAME` changes it.
";
const VERSION_KEY: &str = "osvm_lock";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    osvm_lock: i64,
    #[serde(default)]
    servers: BTreeMap<ServerName, Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    image: Digest,
    origin: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pending: bool,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    packages: BTreeSet<Pin>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tools: BTreeMap<String, Tool>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    hash: Digest,
    definition: String,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Lock {
    pub const VERSION: i64 = 1;
    /// Longest text that is read: a hundred servers with a hundred tools have some MiB.
    pub const MAX_BYTES: usize = 32 << 20;

    pub fn parse(text: &str) -> Result<Self, LockError> {
        if text.len() > Self::MAX_BYTES {
            return Err(LockError::TooLong);
        }
        let document: DocumentMut = text.parse().map_err(|error| syntax(&error))?;
        // A later version may be of another form altogether, so its number is read by itself.
        match document.get(VERSION_KEY).and_then(Item::as_integer) {
            Some(Self::VERSION) => {}
            Some(found) => return Err(LockError::Version { found }),
            None => return Err(LockError::NoVersion),
        }
        let file: File = de::from_document(document).map_err(|error| syntax(&error.into()))?;
        let servers = file.servers.into_iter().map(|(name, entry)| {
            let locked = entry.locked(&name)?;
            Ok((name, locked))
        });
        Ok(Self { servers: servers.collect::<Result<_, _>>()? })
    }

    /// The same text for the same content.
    pub fn to_text(&self) -> String {
        let servers = self.servers.iter().map(|(name, locked)| (name.clone(), Entry::of(locked)));
        let file = File { osvm_lock: Self::VERSION, servers: servers.collect() };
        let text = ser::to_string_pretty(&file).expect("a lock is plain text and numbers");
        format!("{HEADER}{text}")
    }
}

impl Entry {
    fn of(locked: &Locked) -> Self {
        let tools = match &locked.tools {
            Tools::Pending => BTreeMap::new(),
            Tools::Known(tools) => {
                tools.iter().map(|(name, tool)| (name.clone(), Tool::of(tool))).collect()
            }
        };
        Self {
            image: locked.image.clone(),
            origin: locked.origin.clone(),
            pending: locked.tools == Tools::Pending,
            packages: locked.packages.clone(),
            tools,
        }
    }

    fn locked(self, server: &ServerName) -> Result<Locked, LockError> {
        self.packages.iter().try_for_each(|pin| check(server, pin))?;
        let tools = match self.pending {
            true if !self.tools.is_empty() => return Err(LockError::Pending(server.clone())),
            true => Tools::Pending,
            false => {
                let tools = self.tools.into_iter().map(|(name, tool)| tool.read(server, name));
                Tools::Known(tools.collect::<Result<_, _>>()?)
            }
        };
        Ok(Locked { image: self.image, origin: self.origin, packages: self.packages, tools })
    }
}

impl Tool {
    fn of(definition: &Definition) -> Self {
        Self { hash: definition.hash(), definition: definition.text() }
    }

    fn read(self, server: &ServerName, tool: String) -> Result<(String, Definition), LockError> {
        let server = server.clone();
        let definition = match Definition::parse(&self.definition) {
            Ok(definition) => definition,
            Err(source) => return Err(LockError::Tool { server, tool, source }),
        };
        match definition.hash() == self.hash && definition.name() == tool {
            true => Ok((tool, definition)),
            false => Err(LockError::Hash { server, tool }),
        }
    }
}

fn check(server: &ServerName, pin: &Pin) -> Result<(), LockError> {
    let fields = [("name", &pin.name), ("version", &pin.version), ("integrity", &pin.integrity)];
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    match fields.into_iter().find(|(_, text)| !plain(text)) {
        Some((what, _)) => {
            Err(LockError::Pin { server: server.clone(), name: pin.name.clone(), what })
        }
        None => Ok(()),
    }
}

fn syntax(error: &toml_edit::TomlError) -> LockError {
    LockError::Syntax(error.to_string())
}
