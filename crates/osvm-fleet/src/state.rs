//! The states of a microVM and how it may pass from one to the next.
//!
//! ```text
//!            launch
//!              |
//!              v
//!         Preparing ----.   image, initramfs, run directory
//!              |        |
//!              v        |
//!          Booting -----|   VMM runs; agent answers; server answers MCP
//!              |        |---- stop while starting --.
//!              v        |                           v
//!            Ready -----|---- stop, idle -----> Stopping ---> Stopped
//!            |    ^     |                           ^
//!       idle |    | wanted                          |
//!            v    |     |                           |
//!          Suspended ---|---- stop, idle for long --'
//!                       |
//!                       v
//!                  Failed(cause)   VMM, agent or server gone for good
//! ```
//!
//! A guest that falls asleep while it boots is started once more, and one that makes a template goes on as a clone of
//! it; the VM stays `Booting`.
//! `Stopped` and `Failed` are ends: nothing of the VM is left then but its logs.

use std::fmt;

use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Preparing,
    Booting,
    /// The agent answered and the server answered MCP. Nothing else counts as ready.
    Ready,
    /// It has no process, and is on disk as it was; whoever wants something of it waits until it is ready again.
    Suspended,
    Stopping,
    Stopped,
    Failed(Cause),
}

/// Why a VM failed. The text is for people and names what failed and why.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct Cause {
    pub kind: CauseKind,
    pub message: String,
    pub hints: Vec<String>,
}

/// Whose fault it was, as far as exit codes care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CauseKind {
    /// The VM or its VMM could not run, or ended by itself.
    Machine,
    /// What was asked for can't be: no such image, kernel or command.
    Request,
    /// What was asked for is never done.
    Refused,
    /// The server process ran and did not become an MCP server.
    Server,
    /// Too late.
    Deadline,
    /// Stopped or given up before it was ready.
    Cancelled,
    /// Another VM is in the way.
    Conflict,
}

impl State {
    /// Whether the VM has come to its end.
    pub fn is_end(&self) -> bool {
        matches!(self, Self::Stopped | Self::Failed(_))
    }

    /// Whether the VM is on its way up.
    pub fn is_starting(&self) -> bool {
        matches!(self, Self::Preparing | Self::Booting)
    }

    /// The word shown to users.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Suspended => "suspended",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }

    /// Whether the drawing above has an arrow from here to `next`.
    pub fn may_become(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::Preparing, Self::Booting) | (Self::Booting, Self::Ready) => true,
            (Self::Ready, Self::Suspended) | (Self::Suspended, Self::Ready) => true,
            (Self::Stopping, Self::Stopped) => true,
            (Self::Preparing | Self::Booting | Self::Ready | Self::Suspended, Self::Stopping) => {
                true
            }
            (from, Self::Failed(_)) => !from.is_end(),
            _ => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Cause {
    pub fn new(kind: CauseKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new() }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_has_no_way_out() {
        let failed = State::Failed(Cause::new(CauseKind::Machine, "gone"));
        let all = [
            State::Preparing,
            State::Booting,
            State::Ready,
            State::Suspended,
            State::Stopping,
            State::Stopped,
            failed.clone(),
        ];
        for next in &all {
            assert!(!State::Stopped.may_become(next));
            assert!(!failed.may_become(next));
        }
    }

    #[test]
    fn ready_is_reached_only_from_booting_and_from_sleep() {
        for from in [State::Preparing, State::Stopping, State::Stopped, State::Ready] {
            assert!(!from.may_become(&State::Ready), "{from}");
        }
        assert!(State::Booting.may_become(&State::Ready));
        assert!(State::Suspended.may_become(&State::Ready));
    }
}
