//! Who was there at the last look, and is no more. A configuration may lack somebody for a moment: an editor that writes a
//! file in place empties it first.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::sender::Sender;

/// Those that were missing at the last look.
#[derive(Debug, Default)]
pub(super) struct Missing(BTreeSet<String>);

impl Missing {
    /// One look: `act` is told of each whether it is there, of those that are missing for the first time, too.
    pub(super) fn look(
        &mut self,
        is_there: &dyn Fn(&Sender) -> bool,
        act: impl FnOnce(&dyn Fn(&Sender) -> bool),
    ) {
        let now = RefCell::new(BTreeSet::new());
        act(&|sender: &Sender| {
            if is_there(sender) {
                return true;
            }
            let key = sender.key();
            let was_there = !self.0.contains(&key);
            now.borrow_mut().insert(key);
            was_there
        });
        self.0 = now.into_inner();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(missing: &mut Missing, is_there: bool) -> [bool; 2] {
        let mut told = [true; 2];
        // Of whoever has begun several things, each is asked about.
        missing.look(&|_| is_there, |knows| told = [knows(&Sender::Own), knows(&Sender::Own)]);
        told
    }

    #[test]
    fn who_is_missing_at_two_looks_in_a_row_is_gone() {
        let mut missing = Missing::default();
        let told = [true, false, true, false, false, false].map(|is| looks(&mut missing, is));
        assert_eq!(told.map(|[first, _]| first), [true, true, true, true, false, false]);
        assert!(told.iter().all(|[first, second]| first == second));
    }
}
