//! PID 1 inside the VM: small, static, single-purpose.
//!
//! ```text
//! kernel ──> init (mounts, modules, root, lo) ──> link (serial port or vsock) ──> agent (requests, sessions)
//!                                                       ▲                          ├── process (start, kill, reap)
//!                                                       │                          ├── machine (clock, entropy, stats)
//!                                                       └─ streams to the host ─── ├── reach (hosts, folders)
//!                                                                                  └── tries (while recording)
//! ```
//!
//! The only other crate of this project it knows is `osvm-wire`: old agents live on in snapshots, so the wire
//! is their only contract. `init` and `link` need a VM; everything from `agent` on runs in tests as well, in namespaces
//! of their own where it mounts and listens.

pub mod agent;
#[cfg(test)]
mod alone;
mod console;
#[doc(hidden)]
pub mod fuzz;
pub mod init;
mod link;
pub mod machine;
mod netlink;
pub mod process;
mod reach;
mod talk;
mod tries;
