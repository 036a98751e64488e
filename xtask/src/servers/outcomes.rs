//! What was seen of each server, kept between runs.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// How far one came, and what ended it early.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Until it was added: its image made, and started once.
    pub(super) add: Option<Duration>,
    /// Until its tools were listed, with the image there.
    pub(super) start: Option<Duration>,
    pub(super) call: Option<Duration>,
    pub(super) tools: Option<usize>,
    /// Of its VM, in MiB.
    pub(super) memory: Option<u64>,
    /// Of its image, in MiB.
    pub(super) disk: Option<u64>,
    pub(super) failure: Option<String>,
}

pub(super) struct Outcomes {
    path: PathBuf,
    all: BTreeMap<String, Outcome>,
}

impl Outcomes {
    /// Those that were kept in this folder.
    pub(super) fn of(folder: &Path) -> Result<Self> {
        let path = folder.join("tried.json");
        let all = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            text => {
                serde_json::from_str(&text?).with_context(|| format!("read {}", path.display()))?
            }
        };
        Ok(Self { path, all })
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.all.contains_key(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Outcome> {
        self.all.get(name)
    }

    pub(super) fn keep(&mut self, name: &str, outcome: Outcome) -> Result<()> {
        self.all.insert(name.to_owned(), outcome);
        let text = serde_json::to_string_pretty(&self.all)?;
        fs::write(&self.path, text).with_context(|| format!("write {}", self.path.display()))
    }
}
