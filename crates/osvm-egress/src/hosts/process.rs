//! The relay process: reads guests' bytes and makes their connections, so that the daemon, whose own filter
//! leaves it Unix sockets alone, need do neither. One serves a daemon's every VM.
//!
//! ```text
//! guest ──link── daemon ──(control socket: rules, log, stream)──> relay process ──TCP── host
//! ```
//!
//! It holds no secret but a proxy's password and no file but the logs, can start nothing, and ends with its daemon.

mod calls;
mod confine;
mod parcel;
mod seats;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::dial::Dialler;
use super::proxy::{Proxies, ProxySettings, ProxySettingsError};
use super::relay::Carrier;
use super::resolve::{Resolver, Sources};
use parcel::{Inbox, Parcel};
use seats::Seats;

pub use parcel::{CarryError, MOST_RULES, Relay, control};

/// What the process is told at its start.
#[derive(Debug, Clone)]
pub struct Settings {
    pub sources: Sources,
    pub proxies: ProxySettings,
    /// How long a connection may stay without a byte either way.
    pub idle: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sources: Sources::default(),
            proxies: ProxySettings::default(),
            idle: Duration::from_secs(10 * 60),
        }
    }
}

#[derive(Debug, Error)]
pub enum ServeError {
    #[error(transparent)]
    Proxy(#[from] ProxySettingsError),
    #[error("failed to set up the relay's events: {0}")]
    Runtime(io::Error),
    #[error("failed to read the relay's control socket: {0}")]
    Control(io::Error),
}

/// Gives up what it does not need, for good, and carries what arrives on `control` until the other end closes
/// it. To be called while the process has one thread.
pub fn serve(control: OwnedFd, settings: &Settings) -> Result<(), ServeError> {
    let proxies = Proxies::new(&settings.proxies)?;
    confine::give_up(&settings.sources);
    let dialler = Dialler::new(Resolver::new(settings.sources.clone()), proxies);
    let carrier = Arc::new(Carrier::new(dialler, settings.idle));
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().map_err(ServeError::Runtime)?;
    // What is still carried at the end is dropped with the runtime, and so logged.
    runtime.block_on(receive(control, carrier)).map_err(ServeError::Control)
}

async fn receive(control: OwnedFd, carrier: Arc<Carrier>) -> io::Result<()> {
    let mut inbox = Inbox::new(control)?;
    let mut seats = Seats::default();
    while let Some(parcel) = inbox.next().await? {
        if let Err(error) = accept(parcel, &mut seats, &carrier) {
            tracing::warn!(%error, "a guest's stream is not carried");
        }
    }
    Ok(())
}

fn accept(parcel: Parcel, seats: &mut Seats, carrier: &Arc<Carrier>) -> io::Result<()> {
    let Some((errand, seat)) = seats.seat(parcel)? else { return Ok(()) };
    let carrier = carrier.clone();
    tokio::spawn(async move {
        carrier.carry(errand).await;
        drop(seat);
    });
    Ok(())
}
