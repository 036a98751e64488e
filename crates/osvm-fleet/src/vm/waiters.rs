//! Who waits for a VM to start. One that nobody waits for any more is stopped, and nobody joins it from then on.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Vm;

/// How many there are. Held while one is counted and while the last one's leaving stops the VM, so that nobody comes in
/// between.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<u32>);

impl<C> Vm<C> {
    /// One more waits, unless the VM is leaving; whether it does.
    pub(crate) fn join(&self) -> bool {
        let mut waiters = self.waiters.count();
        let may_join = !self.is_leaving();
        *waiters += u32::from(may_join);
        may_join
    }

    /// One that has joined waits no longer.
    pub(crate) fn part(&self) {
        let mut waiters = self.waiters.count();
        *waiters -= 1;
        if *waiters == 0 && self.state().is_starting() {
            self.ask_to_stop();
        }
    }
}

impl Waiters {
    /// Nothing that panics runs under this lock.
    fn count(&self) -> MutexGuard<'_, u32> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
