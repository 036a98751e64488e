//! What stands between a VMM and the host, in layers.
//!
//! A guest that breaks out of its VMM has what the VMM has. So a VMM is started through a shim: the
//! osvm executable itself, which reads a plan, puts the layers on, and becomes the VMM.
//!
//! ```text
//! daemon ──Command──> shim ──new namespaces──> its copy ──puts the layers on──> exec ──> VMM
//!    │    Plan          │ pid                      │ waits for "go"               │
//!    └────── one socket ┴──────────────────────────┴──────── what failed ─────────┘ closed by exec
//! ```
//!
//! - [`Jail`] is what this host can give; [`Layer`] and [`LayerState`] say it in words.
//! - [`enter`] is the shim's whole program. A layer that can't be put on ends it: fail closed.
//! - `ground` finds out, by trying, what the host gives. `seen` reads back from `/proc` what is
//!   really there: what is reported of a VM was seen, not assumed. Landlock alone leaves no trace
//!   there; that a VMM runs shows that it is on, since the shim does not start one without it.
//!
//! The shim runs ordinary code: between `fork` and `exec` of a process with threads almost nothing
//! may be done.

mod calls;
mod files;
mod ground;
mod group;
mod launch;
mod layer;
mod limits;
mod needs;
mod plan;
mod root;
mod seen;
mod share;
mod shim;
mod spaces;
mod user;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub(crate) use calls::Calls;
pub(crate) use files::{Access, Lent, Place};
pub(crate) use group::{Shares, Widened};
pub(crate) use launch::Handover;
pub use launch::JailError;
pub use layer::{Layer, LayerState, Standing};
pub(crate) use limits::Limits;
pub(crate) use needs::{Needs, said};
pub(crate) use plan::{Order, Plan, Task};
pub use share::Share;
pub use shim::{Own, WORD, enter};

use crate::machine::open_input;
use crate::{Process, VmmError};
use group::Groups;
use root::{Root, Workplace};
use seen::Marks;
use user::User;

/// How VMMs are jailed on this host.
#[derive(Debug, Clone)]
pub struct Jail {
    /// The program that is the shim, when started with `shim_args` and the number of its socket.
    shim: PathBuf,
    shim_args: Vec<OsString>,
    proc: PathBuf,
    /// Or why there are none.
    groups: Result<Groups, String>,
    standings: Vec<Standing>,
}

/// What one VMM is allowed.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    /// The VM's name, from which its user follows.
    pub(crate) id: String,
    pub(crate) calls: Calls,
    pub(crate) shares: Shares,
    /// Largest file it can write, in bytes.
    pub(crate) file_size: Option<u64>,
    pub(crate) needs: Needs,
    /// What it may open besides what its program needs.
    pub(crate) lent: Vec<Lent>,
    /// Devices below `/dev`, by name.
    pub(crate) devices: Vec<String>,
    /// A folder in which it works and may write.
    pub(crate) folder: Option<PathBuf>,
    /// Why it puts no filter of its own on, besides ours, where it is known to have none.
    pub(crate) unfiltered: Option<&'static str>,
}

impl Jail {
    /// `shim` is the osvm executable, `proc` where procfs is mounted. Tries what this host gives.
    pub async fn of_host(shim: &Path, proc: &Path) -> Self {
        Self::with_shim(shim, vec![WORD.into()], proc).await
    }

    async fn with_shim(shim: &Path, shim_args: Vec<OsString>, proc: &Path) -> Self {
        let (shim, proc, standings) = (shim.to_owned(), proc.to_owned(), Vec::new());
        let groups = Groups::of_host(&proc);
        let mut jail = Self { shim, shim_args, proc, groups, standings };
        jail.standings = ground::survey(&jail, rustix::process::geteuid().is_root()).await;
        jail
    }

    /// What a VMM started here would have around it.
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }

    pub(crate) fn has(&self, layer: Layer) -> bool {
        self.standings.iter().any(|s| s.layer == layer && s.state == LayerState::On)
    }

    pub(crate) fn shim(&self) -> (&Path, &[OsString]) {
        (&self.shim, &self.shim_args)
    }

    /// What the shim is told. An error where a layer is missing without which no VMM may run.
    pub(crate) fn plan(
        &self,
        cell: &Cell,
        args: Vec<OsString>,
        keep: Vec<i32>,
    ) -> Result<Plan, JailError> {
        self.check_required()?;
        let user = self.user_of(&cell.id);
        let spaces = self.spaces();
        let counts_apart = user.is_some() || spaces.contains(&Layer::UserNamespace);
        let threads = counts_apart.then_some(limits::THREADS);
        let root = Root {
            places: cell.places(),
            folder: cell.folder.as_deref().map(Workplace::writable),
            devices: cell.devices.clone(),
            owner: user,
        };
        let devices = cell.devices.iter().map(|name| format!("/dev/{name}"));
        let devices = devices.map(|path| Lent::path(path, Access::Control));
        let folder = cell.folder.iter().map(|path| Lent::path(path, Access::Keep));
        Ok(Plan {
            task: Task::Program { path: cell.needs.program.clone().into(), args },
            keep,
            limits: Limits { file_size: cell.file_size, threads, descriptors: limits::DESCRIPTORS },
            calls: cell.calls,
            root: spaces.contains(&Layer::MountNamespace).then_some(root),
            spaces,
            user: user.map(User::alone),
            lent: Some(
                cell.needs
                    .lent()
                    .into_iter()
                    .chain(devices)
                    .chain(folder)
                    .chain(cell.lent.clone())
                    .collect(),
            ),
        })
    }

    /// Nothing runs where a layer is missing that must be there.
    fn check_required(&self) -> Result<(), JailError> {
        match self.standings.iter().find(|standing| is_missing(standing)) {
            None => Ok(()),
            Some(Standing { layer, state }) => {
                Err(JailError::Missing { layer: *layer, state: state.clone() })
            }
        }
    }

    /// The namespaces that this host gives.
    fn spaces(&self) -> Vec<Layer> {
        Layer::ALL.iter().copied().filter(|layer| self.spans(*layer)).collect()
    }

    /// The user that a VM's VMM runs as, if it is one of its own.
    pub(crate) fn user_of(&self, id: &str) -> Option<u32> {
        self.has(Layer::OwnUser).then(|| user::of_vm(id))
    }

    /// Opens a file that the VMM opens again, by its descriptor's name and as its own user.
    pub(crate) fn lend(&self, act: &'static str, path: &Path) -> Result<OwnedFd, VmmError> {
        let file = open_input(act, path)?;
        if !self.has(Layer::OwnUser) {
            return Ok(file);
        }
        let path = path.to_owned();
        files::readable_by_all(file).map_err(|source| VmmError::File { act, path, source })
    }

    fn spans(&self, layer: Layer) -> bool {
        spaces::name(layer).is_some() && self.has(layer)
    }

    /// Limits a process that will be a VMM, and all that it becomes.
    pub(crate) async fn enclose(
        &self,
        id: &str,
        shares: Shares,
        process: &Process,
    ) -> Result<(), JailError> {
        let Ok(groups) = &self.groups else { return Ok(()) };
        groups.enclose(id, shares, process).await.map_err(|error| JailError::Failed {
            act: "put it into a control group".to_owned(),
            why: error.to_string(),
            layer: Some(Layer::ControlGroup),
        })
    }

    /// Lets a VM have more memory while it is saved: writing all of it down fills what is else not there.
    pub(crate) fn widen(&self, id: &str) -> Option<Widened> {
        let widened = self.groups.as_ref().ok()?.widen(id);
        widened.inspect_err(|error| tracing::debug!(id, %error, "control group")).ok()
    }

    /// Leaves nothing of a VM that was found running when that ends.
    pub(crate) fn clear_after(&self, id: &str, process: &Process) {
        if let Ok(groups) = &self.groups {
            groups.remove_after(id, process.clone());
        }
    }

    /// Looks at a VMM that runs. A layer that should be on and is not is an error.
    pub(crate) fn look(&self, pid: u32, cell: &Cell) -> Result<Vec<Standing>, JailError> {
        let process = seen::Process::read(&self.proc, pid);
        let marks = Marks { id: &cell.id, user: self.user_of(&cell.id) };
        let told = self.standings.iter().cloned().map(|Standing { layer, state }| {
            let unfiltered = cell.unfiltered.filter(|_| layer == Layer::VmmSandbox);
            match (&state, unfiltered, process.lacks(layer, marks)) {
                (LayerState::On, Some(why), _) => {
                    Ok(Standing { layer, state: LayerState::off(why) })
                }
                (LayerState::On, None, Some(seen)) => {
                    Err(JailError::Missing { layer, state: LayerState::off(seen) })
                }
                _ => Ok(Standing { layer, state }),
            }
        });
        told.collect()
    }
}

impl Cell {
    /// What of the host its root must have.
    fn places(&self) -> Vec<OsString> {
        let lent = self.lent.iter().filter_map(|lent| match &lent.place {
            Place::Path(path) => Some(path.clone()),
            Place::Descriptor(_) => None,
        });
        self.needs.places().into_iter().map(PathBuf::into_os_string).chain(lent).collect()
    }
}

fn is_missing(standing: &Standing) -> bool {
    standing.layer.is_required() && standing.state != LayerState::On
}

#[cfg(test)]
pub(crate) mod tests;
