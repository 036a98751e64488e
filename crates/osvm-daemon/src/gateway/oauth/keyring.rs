//! The keys of one issuer: kept for a while, renewed behind the requests that need them, and asked for again when one is
//! missing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use osvm_image::oci::Access as Ways;
use tokio::task::spawn_blocking;

use super::allowance::Allowance;
use super::ask::Source;
use super::keys::Keys;

/// When an issuer is asked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Age of keys at which newer ones are asked for.
    pub(super) renew: Duration,
    /// Age up to which they serve while newer ones are asked for. Beyond, requests wait for these.
    pub(super) keep: Duration,
    /// How often a key that is missing is asked for at once. Anybody can show a token that names none: each time costs the
    /// issuer a question.
    pub(super) burst: u32,
    /// After which it is asked for once more.
    pub(super) pause: Duration,
    /// From a question that was not answered to the next.
    pub(super) retry: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let renew = Duration::from_secs(600);
        Self {
            renew,
            keep: renew * 2,
            burst: 6,
            pause: Duration::from_secs(10),
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
    asked: tokio::sync::Mutex<Asked>,
}

/// Keys, and when they were had.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) keys: Arc<Keys>,
    pub(super) at: Instant,
}

/// What the issuer was asked.
#[derive(Debug)]
struct Asked {
    /// When it did not answer the last time, and why.
    failed: Option<(Instant, String)>,
    /// For keys that are missing.
    allowance: Allowance,
}

/// What it is asked for.
#[derive(Debug, Clone, Copy)]
enum Want {
    Any,
    /// Those that were had after that moment.
    Newer(Instant),
    /// The same, since one is missing.
    Missing(Instant),
}

impl Want {
    fn is_met(self, held: &Held) -> bool {
        match self {
            Self::Any => true,
            Self::Newer(seen) | Self::Missing(seen) => held.at > seen,
        }
    }
}

impl Keyring {
    pub(super) fn new(source: Source, ways: Arc<Ways>, pace: Pace) -> Self {
        let asked = Asked { failed: None, allowance: Allowance::new() };
        Self { source, ways, pace, held: Mutex::default(), asked: tokio::sync::Mutex::new(asked) }
    }

    /// Those that are held, if they may still serve; or why there are none.
    pub(super) async fn keys(self: &Arc<Self>) -> Result<Held, String> {
        match self.held() {
            Some(held) => {
                if held.at.elapsed() > self.pace.renew && self.asked.try_lock().is_ok() {
                    tokio::spawn(Arc::clone(self).ask(Want::Newer(held.at)));
                }
                Ok(held)
            }
            None => self.answer(Want::Any).await,
        }
    }

    /// Those that were had after that moment, since one is missing. Whether that one is there is not known to whoever asks
    /// too often.
    pub(super) async fn with_missing(self: &Arc<Self>, seen: Instant) -> Result<Held, String> {
        self.answer(Want::Missing(seen)).await
    }

    /// Also when whoever waits for it goes away, so that nobody can keep others from it by asking and going.
    async fn answer(self: &Arc<Self>, want: Want) -> Result<Held, String> {
        let asked = tokio::spawn(Arc::clone(self).ask(want)).await;
        asked.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn ask(self: Arc<Self>, want: Want) -> Result<Held, String> {
        let mut asked = self.asked.lock().await;
        // Somebody else may have asked meanwhile.
        if let Some(held) = self.held().filter(|held| want.is_met(held)) {
            return Ok(held);
        }
        self.may_ask(&mut asked, want)?;
        let ring = Arc::clone(&self);
        let answer = spawn_blocking(move || ring.source.keys(&ring.ways)).await;
        let answer = answer.unwrap_or_else(|error| Err(error.to_string()));
        let at = Instant::now();
        asked.failed = answer.as_ref().err().map(|why| (at, why.clone()));
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

    /// Unless it was asked just now, and did not answer, or often for keys that are missing.
    fn may_ask(&self, asked: &mut Asked, want: Want) -> Result<(), String> {
        let failed = asked.failed.as_ref().filter(|(at, _)| at.elapsed() < self.pace.retry);
        if let Some((_, why)) = failed {
            return Err(why.clone());
        }
        let Pace { burst, pause, .. } = self.pace;
        match want {
            Want::Missing(_) if !asked.allowance.take(burst, pause, Instant::now()) => {
                Err("ask for a key that is missing: its issuer was asked for some just now"
                    .to_owned())
            }
            Want::Any | Want::Newer(_) | Want::Missing(_) => Ok(()),
        }
    }

    fn held(&self) -> Option<Held> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        held.filter(|held| held.at.elapsed() < self.pace.keep)
    }
}
