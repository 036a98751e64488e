//! A tool as a server defines it: the parts that a model or its user goes by, each in canonical form.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::canonical::{CanonicalError, canonical, members, string};
use crate::Digest;

/// What is known of a tool. `_meta`, icons and keys of later protocols are left out: they change from one
/// listing to the next, or steer no model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    name: String,
    /// Canonical JSON of those that there are.
    parts: BTreeMap<Part, String>,
}

/// In the order of the canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Annotations,
    Description,
    InputSchema,
    OutputSchema,
    Title,
}

/// Why a text defines no tool.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DefinitionError {
    #[error("tool has no canonical form")]
    Json(#[from] CanonicalError),
    #[error("tool has no name")]
    NoName,
}

impl Definition {
    /// Reads one element of a listing's `tools`.
    pub fn parse(tool: &str) -> Result<Self, DefinitionError> {
        let (mut name, mut parts) = (None, BTreeMap::new());
        for (key, value) in members(tool)? {
            if key == "name" {
                name = serde_json::from_str::<String>(value.get()).ok();
            }
            if let Some(part) = Part::ALL.into_iter().find(|part| part.key() == key) {
                parts.insert(part, canonical(value.get())?);
            }
        }
        let name = name.filter(|name| !name.is_empty()).ok_or(DefinitionError::NoName)?;
        Ok(Self { name, parts })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn part(&self, part: Part) -> Option<&str> {
        self.parts.get(&part).map(String::as_str)
    }

    /// SHA-256 of [`Self::text`].
    pub fn hash(&self) -> Digest {
        let hash = Sha256::digest(self.text());
        let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Digest::of_hex(&hex).expect("it has 64 digits")
    }

    /// The canonical JSON of the tool with these parts and its name.
    pub fn text(&self) -> String {
        let parts = self.parts.iter().map(|(part, text)| (part.key(), text.clone()));
        let mut members: BTreeMap<_, _> = parts.collect();
        members.insert("name", string(&self.name));
        let members: Vec<_> =
            members.iter().map(|(key, text)| format!("{}:{text}", string(key))).collect();
        format!("{{{}}}", members.join(","))
    }
}

impl Part {
    pub const ALL: [Self; 5] =
        [Self::Annotations, Self::Description, Self::InputSchema, Self::OutputSchema, Self::Title];

    /// In the protocol.
    fn key(self) -> &'static str {
        match self {
            Self::Annotations => "annotations",
            Self::Description => "description",
            Self::InputSchema => "inputSchema",
            Self::OutputSchema => "outputSchema",
            Self::Title => "title",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Annotations => "annotations",
            Self::Description => "description",
            Self::InputSchema => "input schema",
            Self::OutputSchema => "output schema",
            Self::Title => "title",
        })
    }
}
