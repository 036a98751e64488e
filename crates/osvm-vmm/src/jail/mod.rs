//! What stands between a VMM and the host, in layers.
//!
//! A guest that breaks out of its VMM has what the VMM has. So a VMM is started through a shim: the
//! osvm executable itself, which reads a plan, puts the layers on, and becomes the VMM.
//!
//! ```text
//! daemon ──Command──> shim ──puts the layers on──> exec ──> VMM
//!    │   Plan, "go"    │                            │
//!    └───── one socket ┴── its pid, what failed ────┘ closed by exec
//! ```
//!
//! - [`Jail`] is what this host can give; [`Layer`] and [`LayerState`] say it in words.
//! - [`enter`] is the shim's whole program. A layer that can't be put on ends it: fail closed.
//! - `seen` reads back from `/proc` what is really there. What is reported was seen, not assumed.
//!
//! The shim runs ordinary code: between `fork` and `exec` of a process with threads almost nothing
//! may be done.

mod calls;
mod launch;
mod layer;
mod limits;
mod plan;
mod seen;
mod shim;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub(crate) use calls::Calls;
pub(crate) use launch::Handover;
pub use launch::JailError;
pub use layer::{Layer, LayerState, Standing};
pub(crate) use limits::Limits;
pub(crate) use plan::{Order, Plan};
pub use shim::{WORD, enter};

/// How VMMs are jailed on this host.
#[derive(Debug, Clone)]
pub struct Jail {
    /// The program that is the shim, when started with `shim_args` and the number of its socket.
    shim: PathBuf,
    shim_args: Vec<OsString>,
    proc: PathBuf,
}

/// What one VMM is allowed.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) calls: Calls,
    pub(crate) limits: Limits,
    /// It puts a filter of its own on, besides ours.
    pub(crate) own_sandbox: bool,
}

impl Jail {
    /// `shim` is the osvm executable, `proc` where procfs is mounted.
    pub fn of_host(shim: &Path, proc: &Path) -> Self {
        Self { shim: shim.to_owned(), shim_args: vec![WORD.into()], proc: proc.to_owned() }
    }

    /// What a VMM started here would have around it.
    pub fn standings(&self) -> Vec<Standing> {
        Layer::ALL.iter().map(|&layer| Standing { layer, state: self.state(layer) }).collect()
    }

    fn state(&self, layer: Layer) -> LayerState {
        match layer {
            Layer::NoNewPrivs | Layer::Rlimits | Layer::VmmSandbox => LayerState::On,
            Layer::Seccomp => seen::has_seccomp(&self.proc),
        }
    }

    pub(crate) fn shim(&self) -> (&Path, &[OsString]) {
        (&self.shim, &self.shim_args)
    }

    /// Looks at a VMM that runs. A layer that must be on and is not is an error.
    pub(crate) fn look(&self, pid: u32, cell: &Cell) -> Result<Vec<Standing>, JailError> {
        let standings = seen::look(&self.proc.join(pid.to_string()), cell);
        match standings.iter().find(|standing| standing.state != LayerState::On) {
            Some(Standing { layer, state }) if layer.is_required() => {
                Err(JailError::Missing { layer: *layer, state: state.clone() })
            }
            _ => Ok(standings),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
