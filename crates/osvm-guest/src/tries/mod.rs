//! While recording: which paths processes ask for that are not there, or that lie in a lent folder.
//!
//! ```text
//! process ── openat("/home/me/a") ──> kernel ── filter ──> listen (a thread for each session) ──> goes on as ever
//!                                                            └── noted ──> HostRequest::Tried ──> host
//! ```
//!
//! Nothing is decided here: every call goes on as if nobody had looked. What is noted is a hint for people, since a
//! process may change a path after it was looked at.

mod calls;
mod filter;
mod listen;
mod note;

pub(crate) use self::filter::{Handover, Watched};
pub(crate) use self::note::Tries;

#[cfg(test)]
mod tests;
