//! Tells the host what was refused here, so that it stands in its log: each thing once in a while, and all of it
//! slowly, however often programs try.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use osvm_wire::HOSTS_PORT;
use osvm_wire::grant::HostRequest;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::reach::call::tell;
use crate::reach::host::Host;

/// How long the same refusal is not told again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Pause between two reports.
const PAUSE: Duration = Duration::from_millis(100);

/// How long the host may take for one.
const WITHIN: Duration = Duration::from_secs(10);

/// Different refusals that are remembered, and that wait to be told. What is more is not told.
const MAX_TOLD: usize = 256;
const MAX_WAITING: usize = 32;

type Refused = (String, Option<u16>);

pub(super) struct Reports {
    told: Mutex<BTreeMap<Refused, Instant>>,
    waiting: mpsc::Sender<Refused>,
    host: Host,
}

impl Reports {
    pub(super) fn start(host: Host) -> Self {
        let (waiting, queue) = mpsc::channel(MAX_WAITING);
        tokio::spawn(tell_all(host.clone(), queue));
        Self { told: Mutex::default(), waiting, host }
    }

    /// A name that was looked up, or a port that was connected to, and neither is granted.
    pub(super) fn refused(&self, host: &str, port: Option<u16>) {
        let refused = (host.to_owned(), port);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.len() >= MAX_TOLD || told.contains_key(&refused) {
            told.retain(|_, at| at.elapsed() < AGAIN_AFTER);
        }
        if told.len() < MAX_TOLD
            && !told.contains_key(&refused)
            && self.waiting.try_send(refused.clone()).is_ok()
        {
            told.insert(refused, Instant::now());
            self.host.owe();
        }
    }
}

async fn tell_all(host: Host, mut queue: mpsc::Receiver<Refused>) {
    while let Some((name, port)) = queue.recv().await {
        let request = HostRequest::Refused { host: name, port };
        // A host that can't be told is away; programs were refused all the same.
        let _ = tokio::time::timeout(WITHIN, tell(&host, HOSTS_PORT, &request)).await;
        host.told(1);
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reach::host::tests::{Accepted, direct};
    use crate::talk::Talk;

    async fn next(accepted: &mut Accepted) -> Option<HostRequest> {
        let (port, stream) = accepted.recv().await.unwrap();
        assert_eq!(port, HOSTS_PORT);
        Talk::new(stream).incoming.receive().await.unwrap()
    }

    fn refused(host: &str, port: Option<u16>) -> Option<HostRequest> {
        Some(HostRequest::Refused { host: host.to_owned(), port })
    }

    #[tokio::test(start_paused = true)]
    async fn each_refusal_is_told_once_in_a_while() {
        let host = Host::default();
        let (link, mut accepted) = direct();
        let _linked = host.linked(link);
        let reports = Reports::start(host);
        for _ in 0..100 {
            reports.refused("a.example", None);
            reports.refused("a.example", Some(22));
        }
        assert_eq!(next(&mut accepted).await, refused("a.example", None));
        assert_eq!(next(&mut accepted).await, refused("a.example", Some(22)));
        tokio::time::sleep(AGAIN_AFTER).await;
        reports.refused("a.example", None);
        assert_eq!(next(&mut accepted).await, refused("a.example", None));
        assert!(accepted.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_neither_kept_nor_told_in_full() {
        let host = Host::default();
        let (link, mut accepted) = direct();
        let _linked = host.linked(link);
        let reports = Reports::start(host);
        for number in 0..10_000 {
            reports.refused(&format!("n{number}.example"), None);
        }
        for _ in 0..MAX_WAITING {
            next(&mut accepted).await;
        }
        tokio::time::sleep(WITHIN).await;
        assert!(accepted.try_recv().is_err());
        assert!(reports.told.lock().unwrap().len() <= MAX_TOLD);
    }
}
