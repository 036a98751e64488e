//! How long calls took, by server.

use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Default)]
pub(super) struct Tally(BTreeMap<String, Vec<Duration>>);

impl Tally {
    pub(super) fn count(&mut self, server: &str, took: Duration) {
        self.0.entry(server.to_owned()).or_default().push(took);
    }

    pub(super) fn join(mut self, other: Self) -> Self {
        for (server, times) in other.0 {
            self.0.entry(server).or_default().extend(times);
        }
        self
    }

    /// In the order of their length.
    pub(super) fn of(&self, server: &str) -> Vec<Duration> {
        sorted(self.0.get(server).into_iter().flatten())
    }

    pub(super) fn all(&self) -> Vec<Duration> {
        sorted(self.0.values().flatten())
    }
}

fn sorted<'a>(times: impl Iterator<Item = &'a Duration>) -> Vec<Duration> {
    let mut times: Vec<_> = times.copied().collect();
    times.sort_unstable();
    times
}

/// Of times in order, the one that so many of a hundred are not longer than. Zero of none.
pub(super) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(server: &str, millis: impl IntoIterator<Item = u64>) -> Tally {
        let mut tally = Tally::default();
        millis.into_iter().for_each(|time| tally.count(server, Duration::from_millis(time)));
        tally
    }

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let times = tally("a", (1..=200).rev()).of("a");
        assert_eq!(percentile(&times, 50), Duration::from_millis(100));
        assert_eq!(percentile(&times, 99), Duration::from_millis(198));
        assert_eq!(percentile(&times[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }

    #[test]
    fn tallies_come_together_by_server() {
        let joined = tally("a", [3, 1]).join(tally("b", [2])).join(tally("a", [2]));
        assert_eq!(joined.of("a").len(), 3);
        assert_eq!(joined.all().len(), 4);
        assert_eq!(joined.of("c"), []);
    }
}
