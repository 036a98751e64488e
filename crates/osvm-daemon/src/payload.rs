//! The programs that run inside the guest, embedded so that one file is all there is to install.

/// The agent: PID 1 of every guest.
pub(crate) const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/osvm-guest"));

/// The server of the base image, for demonstrations and tests.
pub(crate) const DEMO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/osvm-demo"));

/// Where the base image holds [`DEMO`].
pub(crate) const DEMO_PATH: &str = "/usr/bin/osvm-demo";
