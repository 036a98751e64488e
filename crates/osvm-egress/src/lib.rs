//! What leaves a guest (hosts) and what is lent to it (folders): pure decisions, and the thin relays that keep
//! them. Everything here reads hostile bytes, so it is handed streams and a policy and never sees fleet or VMM.
//!
//! - [`hosts`]: whether a connection may be made, and the relay that makes it.
//! - [`folders`]: the FUSE server that lends one folder and nothing else.
#![forbid(unsafe_code)]

pub mod folders;
#[doc(hidden)]
pub mod fuzz;
pub mod hosts;
