//! The keys of one issuer: kept for a while, renewed behind the requests that need them, and asked for again, not often,
//! when one is missing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use osvm_image::oci::Access as Ways;
use tokio::task::spawn_blocking;

use super::ask::Source;
use super::keys::Keys;

/// When an issuer is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Age of keys at which newer ones are asked for.
    pub(super) renew: Duration,
    /// Age up to which they serve where no newer ones can be had.
    pub(super) keep: Duration,
    /// From one answer to the next question, while there are keys.
    pub(super) pause: Duration,
    /// The same while there are none.
    pub(super) retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            renew: Duration::from_secs(600),
            keep: Duration::from_secs(3_600),
            pause: Duration::from_secs(30),
            retry: Duration::from_secs(5),
        }
    }
}

#[derive(Debug)]
pub(super) struct Keyring {
    pub(super) source: Source,
    ways: Arc<Ways>,
    pace: Pace,
    held: Mutex<Option<Held>>,
    /// Held by whoever asks, so that only one does.
    asked: tokio::sync::Mutex<Option<Asked>>,
}

/// Keys, and when they were had.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) keys: Arc<Keys>,
    pub(super) at: Instant,
}

/// The last time that the issuer was asked.
#[derive(Debug)]
struct Asked {
    at: Instant,
    /// Why there was no answer.
    failed: Option<String>,
}

impl Keyring {
    pub(super) fn new(source: Source, ways: Arc<Ways>, pace: Pace) -> Self {
        Self { source, ways, pace, held: Mutex::default(), asked: tokio::sync::Mutex::default() }
    }

    /// Those that are held, if they may still serve; or why there are none.
    pub(super) async fn keys(self: &Arc<Self>) -> Result<Held, String> {
        match self.held() {
            Some(held) => {
                if held.at.elapsed() > self.pace.renew && self.asked.try_lock().is_ok() {
                    tokio::spawn(Arc::clone(self).ask(Some(held.at)));
                }
                Ok(held)
            }
            None => self.answer(None).await,
        }
    }

    /// Those that were had after that moment; the same again where the issuer was asked just now.
    pub(super) async fn newer_than(self: &Arc<Self>, seen: Instant) -> Result<Held, String> {
        self.answer(Some(seen)).await
    }

    /// Also when whoever waits for it goes away, so that nobody can keep others from it by asking and going.
    async fn answer(self: &Arc<Self>, seen: Option<Instant>) -> Result<Held, String> {
        let asked = tokio::spawn(Arc::clone(self).ask(seen)).await;
        asked.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn ask(self: Arc<Self>, seen: Option<Instant>) -> Result<Held, String> {
        let mut asked = self.asked.lock().await;
        let held = self.held();
        // Somebody else may have asked meanwhile.
        if let Some(held) = held.clone().filter(|held| seen.is_none_or(|seen| held.at > seen)) {
            return Ok(held);
        }
        let pause = if held.is_some() { self.pace.pause } else { self.pace.retry };
        if let Some(last) = asked.as_ref().filter(|last| last.at.elapsed() < pause) {
            match (&last.failed, held) {
                (Some(why), _) => return Err(why.clone()),
                (None, Some(held)) => return Ok(held),
                (None, None) => {}
            }
        }
        let ring = Arc::clone(&self);
        let answer = spawn_blocking(move || ring.source.keys(&ring.ways)).await;
        let answer = answer.unwrap_or_else(|error| Err(error.to_string()));
        let at = Instant::now();
        *asked = Some(Asked { at, failed: answer.as_ref().err().cloned() });
        match answer {
            Ok(keys) => {
                let held = Held { keys: Arc::new(keys), at };
                *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
                Ok(held)
            }
            Err(why) => {
                tracing::warn!("failed to {why}");
                Err(why)
            }
        }
    }

    fn held(&self) -> Option<Held> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        held.filter(|held| held.at.elapsed() < self.pace.keep)
    }
}
