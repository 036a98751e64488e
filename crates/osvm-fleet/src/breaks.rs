//! How often a link may break before its guest is taken for a hostile one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// When the link broke, as far as that still counts.
#[derive(Debug, Default)]
pub(crate) struct Breaks(VecDeque<Instant>);

impl Breaks {
    /// A link breaks when osvm is killed, or by a flaw of one of its ends; that does not come in rows.
    pub(crate) const MOST: usize = 8;
    pub(crate) const WITHIN: Duration = Duration::from_secs(60);

    /// It broke once more; whether that was once too often.
    pub(crate) fn are_too_many(&mut self, now: Instant) -> bool {
        self.0.push_back(now);
        let counts = |at: &Instant| now.saturating_duration_since(*at) < Self::WITHIN;
        self.0.retain(counts);
        self.0.len() > Self::MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_breaks_in_a_row_are_too_many() {
        let start = Instant::now();
        let mut rare = Breaks::default();
        let slow = Breaks::WITHIN / 4;
        assert!((0..100).all(|n| !rare.are_too_many(start + n * slow)));
        let mut often = Breaks::default();
        assert!((0..Breaks::MOST).all(|_| !often.are_too_many(start)));
        assert!(often.are_too_many(start + Breaks::WITHIN / 2));
    }
}
