//! The layers by name, and whether each is on.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing between a VMM and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// No program that the VMM starts can have more rights than it.
    NoNewPrivs,
    /// No core dumps, few descriptors, logs of bounded size.
    Rlimits,
    /// Only the files it was lent, and those of its own program; no TCP; no signals to others.
    Landlock,
    /// Its own uid and gid, and no capability.
    OwnUser,
    /// What an ordinary user needs to have the other namespaces.
    UserNamespace,
    /// A root file system that holds only what its program needs.
    MountNamespace,
    /// It sees no process but itself.
    PidNamespace,
    /// No network interface but a loopback that is down.
    NetworkNamespace,
    IpcNamespace,
    UtsNamespace,
    /// A share of the host's memory, processors and processes that it can't go beyond.
    ControlGroup,
    /// System calls that a VMM does not need don't exist for it.
    Seccomp,
    /// The filter that the VMM puts on by itself: QEMU's `-sandbox`, Firecracker's own.
    VmmSandbox,
}

/// Whether a layer is on, and if not, why: a plain clause for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum LayerState {
    On,
    /// It could be on.
    Off {
        why: String,
    },
    /// This host, or this user on it, can't have it.
    Impossible {
        why: String,
    },
}

/// A layer and its state: `{"layer": "seccomp", "state": "on"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    pub layer: Layer,
    #[serde(flatten)]
    pub state: LayerState,
}

impl Layer {
    /// In the order in which they are told.
    pub const ALL: &[Self] = &[
        Self::NoNewPrivs,
        Self::Rlimits,
        Self::Seccomp,
        Self::VmmSandbox,
        Self::Landlock,
        Self::OwnUser,
        Self::UserNamespace,
        Self::MountNamespace,
        Self::PidNamespace,
        Self::NetworkNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::ControlGroup,
    ];

    /// Whether a VMM must not run without it.
    pub fn is_required(self) -> bool {
        match self {
            Self::NoNewPrivs
            | Self::Rlimits
            | Self::Seccomp
            | Self::VmmSandbox
            | Self::Landlock => true,
            Self::OwnUser
            | Self::UserNamespace
            | Self::MountNamespace
            | Self::PidNamespace
            | Self::NetworkNamespace
            | Self::IpcNamespace
            | Self::UtsNamespace
            | Self::ControlGroup => false,
        }
    }
}

impl LayerState {
    pub(crate) fn off(why: impl Into<String>) -> Self {
        Self::Off { why: why.into() }
    }

    pub(crate) fn impossible(why: impl Into<String>) -> Self {
        Self::Impossible { why: why.into() }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNewPrivs => "no new privileges",
            Self::Rlimits => "resource limits",
            Self::Landlock => "files by Landlock",
            Self::OwnUser => "a user of its own",
            Self::UserNamespace => "user namespace",
            Self::MountNamespace => "a root file system of its own",
            Self::PidNamespace => "PID namespace",
            Self::NetworkNamespace => "network namespace",
            Self::IpcNamespace => "IPC namespace",
            Self::UtsNamespace => "UTS namespace",
            Self::ControlGroup => "control group",
            Self::Seccomp => "system call filter",
            Self::VmmSandbox => "the VMM's own filter",
        })
    }
}

impl fmt::Display for LayerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On => f.write_str("on"),
            Self::Off { why } => write!(f, "off: {why}"),
            Self::Impossible { why } => write!(f, "impossible here: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_is_one_flat_object() {
        let standing = Standing { layer: Layer::Seccomp, state: LayerState::impossible("no") };
        let text = r#"{"layer":"seccomp","state":"impossible","why":"no"}"#;
        assert_eq!(serde_json::to_string(&standing).unwrap(), text);
        assert_eq!(serde_json::from_str::<Standing>(text).unwrap(), standing);
        let on = Standing { layer: Layer::NoNewPrivs, state: LayerState::On };
        let text = r#"{"layer":"no_new_privs","state":"on"}"#;
        assert_eq!(serde_json::to_string(&on).unwrap(), text);
    }
}
