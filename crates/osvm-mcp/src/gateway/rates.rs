//! How often a token, or a subject with whichever of its clients, may ask.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::refusal::Refusal;
use super::sender::Sender;
use super::sessions::lock;
use crate::rate::Rate;

/// What is used up of each token's limit; also of a token that was made anew under its old name.
#[derive(Default)]
pub(super) struct Rates(Mutex<BTreeMap<String, Used>>);

struct Used {
    rate: Arc<Rate>,
    last: Instant,
}

/// After which nothing is used up of any limit for a minute.
const MINUTE: Duration = Duration::from_secs(60);

impl Rates {
    /// Counts so many requests, unless they are too many.
    pub(super) fn take(
        &self,
        sender: &Sender,
        count: usize,
        id: Option<&RawValue>,
    ) -> Result<(), Refusal> {
        let limit = sender.rights().and_then(|rights| rights.requests_per_minute);
        let Some((limit, account)) = limit.zip(sender.account()) else { return Ok(()) };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        let taken = self.of(account, limit).take(count);
        taken.map_err(|exceeded| {
            let why = format!("token {} asks too often: {exceeded}", sender.name());
            Refusal::too_many(id, why, exceeded.seconds)
        })
    }

    fn of(&self, account: String, limit: NonZeroU32) -> Arc<Rate> {
        let mut rates = lock(&self.0);
        let known = rates.get(&account).filter(|used| used.rate.limit() == limit);
        let rate = known.map(|used| Arc::clone(&used.rate));
        let rate = rate.unwrap_or_else(|| Arc::new(Rate::new(limit)));
        rates.insert(account, Used { rate: Arc::clone(&rate), last: Instant::now() });
        rate
    }

    /// Those of whom nothing is used up.
    pub(super) fn forget(&self) {
        lock(&self.0).retain(|_, used| used.last.elapsed() <= MINUTE);
    }
}
