//! The way to the host: whichever device the machine has for it.

mod mux;
mod serial;
mod vsock;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use osvm_wire::AGENT_PORT;
use tokio::io::AsyncReadExt;

use crate::agent::{Agent, Stream};

/// What carries the link.
pub(crate) enum Transport {
    /// A virtio-serial port.
    Serial(PathBuf),
    Vsock,
}

/// Looks for the device; none means that it has not appeared yet.
pub(crate) fn find() -> Option<Transport> {
    serial::find().map(Transport::Serial).or_else(|| vsock::is_there().then_some(Transport::Vsock))
}

/// Serves the agent for ever.
pub(crate) async fn serve(transport: Transport, agent: Arc<Agent>) -> io::Result<()> {
    match transport {
        Transport::Serial(path) => serial::serve(&path, &agent).await,
        Transport::Vsock => vsock::serve(&agent).await,
    }
}

/// Serves one stream of a multiplexer, which says first which port it is for.
async fn serve_stream(mut stream: impl Stream, agent: Arc<Agent>) {
    let mut header = [0; 4];
    let named = stream.read_exact(&mut header).await;
    if named.is_ok() && osvm_wire::link::parse_port(header) == AGENT_PORT {
        agent.serve(boxed(stream)).await;
    }
}

/// Streams of one type, so that the agent is there once and not for each transport.
fn boxed(stream: impl Stream) -> Box<dyn Stream> {
    Box::new(stream)
}
