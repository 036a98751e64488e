//! How often a token may ask.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use osvm_spec::config::TokenName;
use serde_json::value::RawValue;

use super::refusal::Refusal;
use super::sender::Sender;
use super::sessions::lock;
use crate::rate::Rate;

/// What is used up of each token's limit; also of a token that was made anew under its old name.
#[derive(Default)]
pub(super) struct Rates(Mutex<BTreeMap<TokenName, Arc<Rate>>>);

impl Rates {
    /// Counts so many requests, unless they are too many.
    pub(super) fn take(
        &self,
        sender: &Sender,
        count: usize,
        id: Option<&RawValue>,
    ) -> Result<(), Refusal> {
        let Some(token) = sender.token() else { return Ok(()) };
        let Some(limit) = token.rights.requests_per_minute else { return Ok(()) };
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let Some(count) = NonZeroU32::new(count) else { return Ok(()) };
        let taken = self.of(&token.name, limit).take(count);
        taken.map_err(|exceeded| {
            let why = format!("token {} asks too often: {exceeded}", token.name);
            Refusal::too_many(id, why, exceeded.seconds)
        })
    }

    fn of(&self, name: &TokenName, limit: NonZeroU32) -> Arc<Rate> {
        let mut rates = lock(&self.0);
        let known = rates.get(name).filter(|rate| rate.limit() == limit);
        if let Some(rate) = known {
            return Arc::clone(rate);
        }
        let rate = Arc::new(Rate::new(limit));
        rates.insert(name.clone(), Arc::clone(&rate));
        rate
    }
}
