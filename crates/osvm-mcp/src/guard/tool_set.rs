//! Some of a server's tools, also where most of their names are unknown.

use std::collections::BTreeSet;

/// Which tools something holds for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolSet {
    These(BTreeSet<String>),
    /// Every name that a client may call, also one that nobody has said anything of.
    AllBut(BTreeSet<String>),
}

impl ToolSet {
    pub fn contains(&self, tool: &str) -> bool {
        match self {
            Self::These(tools) => tools.contains(tool),
            Self::AllBut(others) => !others.contains(tool),
        }
    }

    /// Whether no tool is in it, whatever its name.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::These(tools) if tools.is_empty())
    }
}

/// No tool.
impl Default for ToolSet {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}
