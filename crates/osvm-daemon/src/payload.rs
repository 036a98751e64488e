//! The programs that run inside the guest, embedded so that one file is all there is to install.

use osvm_image::initramfs::Agent;

/// The agent: PID 1 of every guest.
pub(crate) const AGENT: Agent = Agent {
    bytes: include_bytes!(concat!(env!("OUT_DIR"), "/osvm-guest")),
    digest: include_str!(concat!(env!("OUT_DIR"), "/osvm-guest.sha256")),
};

/// The server of the base image, for demonstrations and tests.
pub(crate) const DEMO: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/osvm-demo"));

/// Where the base image holds [`DEMO`].
pub(crate) const DEMO_PATH: &str = "/usr/bin/osvm-demo";
