//! The least that would have covered what a recorded server tried: hosts, folders, environment. Pure, but for what the
//! caller lets it know of the host's files. Granting any of it is the user's to do.

mod folders;
mod hosts;
mod variables;

use std::collections::BTreeSet;
use std::path::Path;

use osvm_egress::hosts::account::entries;
use osvm_spec::{Folder, FolderRule, HostRule, Hosts};
use serde::{Deserialize, Serialize};

pub use variables::{Mentions, mentioned};

/// What a server needs, each with the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub hosts: HostNeeds,
    pub folders: Vec<FolderNeed>,
    pub environment: Vec<VariableNeed>,
    /// What was tried and can't be granted.
    pub beyond: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNeeds {
    pub allow: Vec<HostNeed>,
    pub allow_private: Vec<HostNeed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostNeed {
    pub rule: HostRule,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderNeed {
    pub rule: FolderRule,
    /// Whether the host has the folder, or file. If not, the rule's left side is a guess that must be mended.
    pub exists: bool,
    pub reason: String,
}

/// A variable that the server has not, and spoke of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariableNeed {
    pub name: String,
    /// Whether its name says that its value is a secret.
    pub secret: bool,
    pub reason: String,
}

/// What there is at a path of the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnHost {
    Nothing,
    Folder,
    File,
    /// What is not lent.
    Other,
}

/// What was granted to the server, and what is known of its doings.
#[derive(Debug)]
pub struct Evidence<'e> {
    pub hosts: &'e Hosts,
    pub folders: &'e [Folder],
    /// Names of the variables that it was given.
    pub variables: BTreeSet<&'e str>,
    /// The VM's egress log.
    pub egress: &'e str,
    /// What the server wrote to standard error.
    pub stderr: &'e str,
    /// Variables that its answers mention.
    pub mentions: &'e Mentions,
}

/// The least policy that covers what was tried, grants that were used included.
pub fn least(evidence: &Evidence<'_>, on_host: impl Fn(&Path) -> OnHost) -> Policy {
    let mut policy = Policy::default();
    hosts::add(&mut policy, evidence.hosts, entries(evidence.egress));
    folders::add(&mut policy, evidence.folders, entries(evidence.egress), on_host);
    policy.environment = variables::needs(&evidence.variables, evidence.stderr, evidence.mentions);
    policy
}

impl Policy {
    /// Whether nothing was tried that needs a grant.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// `once`, `2 times`.
fn times(count: usize) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}
