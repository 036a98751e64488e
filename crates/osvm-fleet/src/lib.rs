//! Life of microVMs: state machine, run directories, suspension, idle stop, re-adoption.
//!
//! [`Fleet`] holds every VM of one user. [`life`] is the one task that leads a VM from state to
//! state ([`state`] draws them), [`adopt`] takes VMs of an earlier daemon back. The fleet knows no
//! MCP: a [`Greeter`] proves for it that a server answers.
#![forbid(unsafe_code)]

mod admission;
mod adopt;
pub mod agent;
mod asleep;
mod bed;
mod breaks;
mod diary;
pub mod drivers;
mod fleet;
pub mod folders;
#[doc(hidden)]
pub mod fuzz;
mod greeter;
mod id;
mod life;
pub mod logs;
mod memory;
mod plan;
mod prepare;
mod reach;
mod record;
mod rehearsals;
mod relief;
mod remove;
mod rundir;
mod spares;
pub mod state;
mod templates;
mod vm;

pub use fleet::{Fleet, Idle, Launch, Settings};
pub use greeter::{GreetError, Greeter, Greeting, Meeting, Pipes};
pub use id::VmId;
pub use memory::Memory;
pub use plan::{Plan, Purpose, Rootfs, StartedBy};
pub use prepare::{Importer, Preparer};
pub use vm::{Ending, Facts, Server, Timings, Visit, Vm};
