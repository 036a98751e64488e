//! How far many launches have come, on a line that is shown meanwhile.

use std::sync::{Mutex, PoisonError};

use crate::progress::Progress;

pub(super) struct Live {
    line: Progress,
    counts: Mutex<Counts>,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) all: usize,
    pub(super) ready: usize,
    pub(super) failed: usize,
    /// Those whose VMM runs. More wait: for their turn, for room in memory, or for the template that one of these makes.
    pub(super) booting: usize,
}

impl Live {
    pub(super) fn of(all: usize) -> Self {
        let counts = Counts { all, ..Counts::default() };
        Self { line: Progress::start(counts.text()), counts: Mutex::new(counts) }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts);
        self.line.say(counts.text());
    }
}

impl Counts {
    fn text(&self) -> String {
        let Self { all, ready, failed, booting } = self;
        let waiting = all.saturating_sub(ready + failed + booting);
        format!(
            "launching {all}: {ready} ready, {booting} booting, {waiting} waiting, {failed} failed"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_which_nothing_is_known_wait() {
        let counts = Counts { all: 100, ready: 2, failed: 1, booting: 3 };
        assert_eq!(counts.text(), "launching 100: 2 ready, 3 booting, 94 waiting, 1 failed");
    }
}
