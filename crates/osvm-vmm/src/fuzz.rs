//! A door for the fuzzing crate to what reads a VMM's answers and a guest's streams, and what one of them is held against.
//! No part of the interface.

mod replayed;

use tokio::net::UnixStream;

use crate::link::{greet, mux};
use crate::{Link, LinkError};

pub use crate::firecracker::api::fuzz as api;
pub use crate::firecracker::vsock::fuzz as vsock;
pub use crate::qemu::qmp::fuzz as qmp;
pub use crate::qemu::stream::copy_changes as suspended;
pub use replayed::Replayed;

/// The host's side of a serial link's handshake.
pub async fn greeting(mut socket: UnixStream) -> Result<(), LinkError> {
    greet(&mut socket).await
}

/// A serial link after its handshake.
pub fn link(socket: UnixStream, guest_ports: &[u32]) -> Link {
    mux::start(socket, guest_ports, ())
}
