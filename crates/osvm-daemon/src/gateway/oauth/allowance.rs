//! How often something may be done: some times at once, and then once for each part of the time.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Allowance {
    /// When all of it is there again.
    full: Instant,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self { full: Instant::now() }
    }

    /// Whether it may be done once more, of `burst` times at once and one for each `pause`.
    pub(super) fn take(&mut self, burst: u32, pause: Duration, now: Instant) -> bool {
        let full = self.full.max(now) + pause;
        let is_there = full <= now + pause * burst;
        if is_there {
            self.full = full;
        }
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_up_comes_back_one_by_one_and_is_never_more() {
        let mut allowance = Allowance::new();
        let (start, pause) = (Instant::now() + Duration::from_secs(60), Duration::from_secs(10));
        let mut takes = |seconds| allowance.take(2, pause, start + Duration::from_secs(seconds));
        assert!(takes(0) && takes(0) && !takes(0) && !takes(9));
        assert!(takes(10) && !takes(10));
        assert!(takes(100) && takes(100) && !takes(100));
    }
}
