//! What host and guest say to each other: the link's handshake, frames, messages, and the
//! bookkeeping that lets a session survive a hang-up. Data only; reading and writing is done by the
//! rooms on both ends.
//!
//! A guest may be years older than its host (it lives on in a snapshot), so every message names the
//! protocol's [`VERSION`], and golden bytes in the tests freeze what each version looks like.
#![forbid(unsafe_code)]

pub mod chunk;
pub mod frame;
pub mod grant;
pub mod link;
pub mod message;
pub mod post;
pub mod session;
#[cfg(test)]
mod tests;

/// The protocol's version: one number for handshake, frames and messages together.
pub const VERSION: u8 = 1;

/// The port the agent listens on in the guest.
pub const AGENT_PORT: u32 = 5252;

/// The port on which the host takes streams to hosts, where it has granted any,
pub const HOSTS_PORT: u32 = 5253;

/// and the first of those on which it takes streams to folders: one for each, in the order of the grants.
pub const FOLDERS_PORT: u32 = 5254;

/// The name of the virtio-serial port that carries the link.
pub const SERIAL_PORT: &str = "osvm";
