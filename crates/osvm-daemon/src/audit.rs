//! The record of tool calls: one line of JSON for each, appended to a file that is never changed otherwise. Each line
//! carries the digest of the one before it.

mod chain;
mod log;
mod read;
mod record;

pub use chain::{Fault, Verified, verify};
pub(crate) use log::Log;
pub use read::{Found, Wanted, read};
pub use record::{Caller, Egress, Outcome, Part, Reach, Reached, Record, Way};

/// What the first line has in place of the digest of one before it.
pub const BEGINNING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
