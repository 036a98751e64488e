//! The relay: the process that connects guests to hosts, which the daemon itself can't. Started before the daemon
//! gives that up; it ends with the daemon, whose end of their socket it watches.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use osvm_egress::hosts::{Relay, control};

use crate::shim;

/// The process, and the way to it.
pub(super) struct RelayProcess {
    child: Child,
    control: OwnedFd,
}

/// `program` is the osvm executable.
#[expect(clippy::disallowed_methods, reason = "the relay is osvm itself, started by osvm")]
pub(super) fn start(program: &Path) -> io::Result<RelayProcess> {
    let (ours, theirs) = control()?;
    let mut command = Command::new(program);
    command.arg(shim::RELAY_WORD).stdin(theirs).stdout(Stdio::null());
    Ok(RelayProcess { child: command.spawn()?, control: ours })
}

/// The way to the relay, or none where it could not be started, which is then noted.
pub(super) fn reach(started: io::Result<RelayProcess>) -> Option<Arc<Relay>> {
    let reached = started.and_then(|RelayProcess { child, control }| {
        tokio::task::spawn_blocking(move || watch(child));
        Relay::new(control)
    });
    reached
        .inspect_err(|error| tracing::error!(%error, "no guest can reach a host"))
        .ok()
        .map(Arc::new)
}

/// It ends only by a mistake, before the daemon does.
fn watch(mut relay: Child) {
    let ended = relay.wait();
    tracing::error!(
        ?ended,
        "the relay has ended: no guest reaches a host until the daemon is started anew"
    );
}
