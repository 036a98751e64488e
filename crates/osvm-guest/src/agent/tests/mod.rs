//! The agent, asked by a host that speaks the wire over pipes in memory, with processes of the test machine.

mod hang_ups;
pub(crate) mod host;
mod init;
mod requests;
mod sessions;
