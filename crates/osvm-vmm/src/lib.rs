//! Makes a machine run: one small trait, and a driver for each VMM.
//!
//! ```text
//! HostFacts + wish + Programs ──choose──> Choice ──open──> Driver
//!                                                            │ start(Machine), adopt(Saved)
//!                                                            v
//!                   streams <──open, accept── Link <──connect── Running ──exited──> Exit
//!                                               └──hang_up───────^  │ save
//!                             restore(Machine) ──────────────────┘  v
//!                                    Template <──load── Driver <── folder
//! ```
//!
//! - [`Driver`] starts a [`Machine`] (what was asked) and gives [`Running`] (what is there).
//!   [`Saved`] is what a later process needs to find it again: VMMs run in sessions of their own
//!   and outlive whoever started them.
//! - [`Template`] is a machine that was saved: each machine restored from it goes on where that one
//!   was, and has its memory in common with the others until it changes it.
//! - [`Link`] is the way to the guest's agent, the same over virtio-serial and over vsock. A machine
//!   has at most one link at a time; after a hang-up, `connect` makes the next.
//! - [`Jail`](jail::Jail) is what stands between a VMM and the host.
//! - [`Process`] is a pid together with its start time, held by a pidfd.
//!
//! Everything arrives as an argument: this crate reads no environment and prints nothing. All of it
//! expects to be called inside a Tokio runtime with I/O and time enabled.
//!
//! Deliberately absent: state machines, run directories' lives, retries. Those are the fleet's.

mod changes;
pub mod choose;
mod cost;
mod driver;
pub mod fake;
pub mod firecracker;
#[doc(hidden)]
pub mod fuzz;
pub mod holes;
pub mod jail;
mod link;
mod logs;
mod machine;
mod memfd;
mod process;
pub mod qemu;
mod snapshot;

pub use cost::memory_limit_bytes;
pub(crate) use driver::controlled;
pub use driver::{Capabilities, Driver, Running, Saved, Template, VmmError};
pub use link::{Link, LinkError, Stream};
pub use logs::CappedLog;
pub use machine::{BootProtocol, Kernel, Machine};
pub use process::{Exit, Identity, Process, ProcessError};
