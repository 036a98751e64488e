//! So many a minute: as many at once, and then evenly.

use std::num::NonZeroU32;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::clock::{Clock, DefaultClock};
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use thiserror::Error;

/// One limit, and how much of it is used up.
#[derive(Debug)]
pub(crate) struct Rate {
    limit: NonZeroU32,
    limiter: RateLimiter<NotKeyed, Usage, DefaultClock>,
    usage: Usage,
}

/// How much is used up, kept where it can be set back.
#[derive(Debug, Clone, Default)]
struct Usage(Arc<Mutex<Option<Nanos>>>);

/// How much was used up at some moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used(Option<Nanos>);

/// There were too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the limit is {limit} a minute; try again in {seconds} s")]
pub(crate) struct Exceeded {
    limit: NonZeroU32,
    /// Until there is room for one more.
    pub(crate) seconds: u64,
}

impl Rate {
    pub(crate) fn new(limit: NonZeroU32) -> Self {
        let (quota, usage) = (Quota::per_minute(limit), Usage::default());
        let limiter = RateLimiter::new(quota, usage.clone(), DefaultClock::default());
        Self { limit, limiter, usage }
    }

    pub(crate) fn limit(&self) -> NonZeroU32 {
        self.limit
    }

    /// All of them, or none.
    pub(crate) fn take(&self, count: NonZeroU32) -> Result<(), Exceeded> {
        let seconds = match self.limiter.check_n(count) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(early)) => {
                let wait = early.wait_time_from(DefaultClock::default().now());
                wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
            }
            // More than there ever is room for.
            Err(_) => 60,
        };
        Err(Exceeded { limit: self.limit, seconds: seconds.max(1) })
    }

    /// What [`give_back`](Self::give_back) is given.
    pub(crate) fn used(&self) -> Used {
        Used(*self.usage.lock())
    }

    /// As if nothing had been taken since. Nobody else may have taken anything meanwhile.
    pub(crate) fn give_back(&self, Used(used): Used) {
        *self.usage.lock() = used;
    }
}

impl Usage {
    fn lock(&self) -> MutexGuard<'_, Option<Nanos>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StateStore for Usage {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut used = self.lock();
        let (outcome, next) = measure(*used)?;
        *used = Some(next);
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(count: u32) -> NonZeroU32 {
        NonZeroU32::new(count).unwrap()
    }

    #[test]
    fn so_many_pass_and_the_next_is_told_when_to_come_again() {
        let rate = Rate::new(count(2));
        assert_eq!(rate.take(count(1)), Ok(()));
        assert_eq!(rate.take(count(1)), Ok(()));
        let told = rate.take(count(1)).unwrap_err();
        assert!((25..=30).contains(&told.seconds), "{told}");
        let why = format!("the limit is 2 a minute; try again in {} s", told.seconds);
        assert_eq!(told.to_string(), why);
    }

    #[test]
    fn what_is_given_back_is_there_again_and_no_more_than_that() {
        let rate = Rate::new(count(2));
        rate.take(count(1)).unwrap();
        for _ in 0..5 {
            let used = rate.used();
            rate.take(count(1)).unwrap();
            rate.give_back(used);
        }
        assert_eq!(rate.take(count(1)), Ok(()));
        assert!(rate.take(count(1)).is_err());
    }

    #[test]
    fn several_pass_together_or_not_at_all() {
        let rate = Rate::new(count(3));
        assert!(rate.take(count(4)).is_err());
        assert_eq!(rate.take(count(2)), Ok(()));
        assert!(rate.take(count(2)).is_err());
        assert_eq!(rate.take(count(1)), Ok(()));
    }
}
