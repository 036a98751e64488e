//! What the guest may reach outside: hosts and folders, by streams that the agent opens to the host.

mod host;

pub(crate) use host::{Host, HostStream, Link, Opening};
