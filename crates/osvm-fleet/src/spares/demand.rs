//! How many clones are to wait: as many as were asked for while one is being made.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// About how long it takes to restore one where that is slow.
const MAKING: Duration = Duration::from_secs(1);
/// How long one waits for somebody to ask.
const KEPT: Duration = Duration::from_secs(60);
/// Most that wait at a time.
pub(super) const MOST: usize = 8;

/// When they were asked for last.
#[derive(Debug, Default)]
pub(super) struct Demand(VecDeque<Instant>);

impl Demand {
    pub(super) fn asked(&mut self) {
        self.asked_at(Instant::now());
    }

    fn asked_at(&mut self, now: Instant) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back(now);
    }

    /// What was asked for last was had only now.
    pub(super) fn served(&mut self) {
        self.served_at(Instant::now());
    }

    fn served_at(&mut self, now: Instant) {
        match self.0.back_mut() {
            Some(last) => *last = now,
            None => self.0.push_back(now),
        }
    }

    /// How many should wait, and until when none has to be taken away.
    pub(super) fn now(&self) -> (usize, Instant) {
        self.at(Instant::now())
    }

    fn at(&self, now: Instant) -> (usize, Instant) {
        let until = self.0.back().map_or(now, |last| *last + KEPT);
        if until <= now {
            return (0, now);
        }
        let lately = self.0.iter().filter(|asked| **asked + MAKING > now).count();
        (lately.max(1), until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_wait_as_were_asked_for_within_a_second_and_one_for_a_minute() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut demand = Demand::default();
        assert_eq!(demand.at(start).0, 0);
        for millis in [0, 500, 800] {
            demand.asked_at(after(millis));
        }
        let wanted = |millis| demand.at(after(millis)).0;
        assert_eq!([900, 1_100, 1_600, 60_700, 60_800].map(wanted), [3, 2, 1, 1, 0]);
        assert_eq!(demand.at(after(900)).1, after(60_800));
    }

    #[test]
    fn one_waits_for_a_minute_after_a_vm_that_took_longer_than_that() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut demand = Demand::default();
        demand.asked_at(start);
        assert_eq!(demand.at(after(70)).0, 0);
        demand.served_at(after(70));
        assert_eq!([71, 129, 130].map(|seconds| demand.at(after(seconds)).0), [1, 1, 0]);
        let mut forgotten = Demand::default();
        forgotten.served_at(start);
        assert_eq!(forgotten.at(after(1)).0, 1);
    }

    #[test]
    fn no_crowd_makes_more_wait_than_the_most() {
        let start = Instant::now();
        let mut demand = Demand::default();
        for _ in 0..10 * MOST {
            demand.asked_at(start);
        }
        assert_eq!(demand.at(start).0, MOST);
    }
}
