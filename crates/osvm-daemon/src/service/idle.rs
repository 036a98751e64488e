//! VMs that nobody uses are suspended, and later ended; what can be done for later ones is done when nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use osvm_fleet::Idle;
use osvm_spec::config::Microvm;

use super::Daemon;

/// How long a template stays in memory that no VM comes of: opening it again takes part of a second.
const TEMPLATES_OPEN: Duration = Duration::from_secs(300);

/// For ever, as the configuration says at that moment.
pub(super) async fn settle(daemon: Arc<Daemon>) {
    const LOOK: Duration = Duration::from_secs(60);
    loop {
        let due = daemon.fleet.settle_idle(&daemon.idle_limits());
        daemon.fleet.close_templates(TEMPLATES_OPEN);
        if let Some(quiet) = daemon.quiet {
            daemon.fleet.rehearse_if_quiet(quiet);
        }
        let due = due.into_iter().chain(daemon.quiet).min();
        tokio::time::sleep(due.unwrap_or(LOOK).clamp(Duration::from_secs(1), LOOK)).await;
    }
}

impl Daemon {
    fn idle_limits(&self) -> Idle {
        let (told, configured) = (self.idle, self.idle_configured());
        let limit = |told: Option<Duration>, configured| match told {
            Some(told) => Some(told).filter(|told| !told.is_zero()),
            None => configured,
        };
        Idle {
            suspend: limit(told.suspend, configured.suspend),
            stop: limit(told.stop, configured.stop),
            stop_suspended: limit(told.stop_suspended, configured.stop_suspended),
        }
    }

    /// A configuration that can't be read suspends and ends none.
    fn idle_configured(&self) -> Idle {
        let Ok(config) = self.config.current() else { return Idle::default() };
        let Microvm { idle_suspend, idle_stop, suspended_stop, .. } = config.microvm;
        Idle { suspend: idle_suspend, stop: idle_stop, stop_suspended: suspended_stop }
    }
}
