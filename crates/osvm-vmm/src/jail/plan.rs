//! What the shim is told, and the few words it says back.

use std::ffi::OsString;
use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use super::files::Lent;
use super::root::Root;
use super::user::User;
use super::{Calls, Layer, Limits};

/// Everything the shim needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) task: Task,
    /// Descriptors that stay open, besides the three standard ones.
    pub(crate) keep: Vec<RawFd>,
    pub(crate) limits: Limits,
    pub(crate) calls: Calls,
    /// Namespaces to be in.
    pub(crate) spaces: Vec<Layer>,
    /// In a mount namespace.
    pub(crate) root: Option<Root>,
    /// Where the shim is root.
    pub(crate) user: Option<User>,
    /// Files and folders that it may open; all when not given.
    pub(crate) lent: Option<Vec<Lent>>,
}

/// What the shim becomes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Another program, at this absolute path.
    Program { path: OsString, args: Vec<OsString> },
    /// What osvm itself does under these arguments.
    Own { args: Vec<OsString> },
    /// Nothing: it was a trial.
    Nothing,
}

/// What the daemon says: a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    Prepare(Box<Plan>),
    /// The daemon watches the process: become the program.
    Go,
}

/// What the shim says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// The process that will be the program. It waits for [`Order::Go`].
    Born { pid: u32 },
    /// The trial has come to its end.
    Fit,
    /// It will not become the program.
    Failed { act: String, why: String, layer: Option<Layer> },
}
