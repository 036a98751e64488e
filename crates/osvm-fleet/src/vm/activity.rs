//! Who uses a VM, and since when nobody does.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Counts visits and calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Activity(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    visits: AtomicU32,
    calls: AtomicU64,
    /// End of the last visit.
    quiet_since: Mutex<Option<Instant>>,
}

/// As long as it lives, the VM is in use.
#[derive(Debug)]
pub struct Visit(Arc<Counts>);

impl Activity {
    pub(crate) fn visit(&self) -> Visit {
        self.0.visits.fetch_add(1, Ordering::Relaxed);
        Visit(Arc::clone(&self.0))
    }

    pub(crate) fn visits(&self) -> u32 {
        self.0.visits.load(Ordering::Relaxed)
    }

    pub(crate) fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }

    /// How long nobody has used the VM, counted from `start` when nobody ever did. None while it is
    /// in use.
    pub(crate) fn idle(&self, start: Instant) -> Option<Duration> {
        if self.visits() > 0 {
            return None;
        }
        let since = *self.0.quiet_since.lock().unwrap_or_else(PoisonError::into_inner);
        Some(since.unwrap_or(start).elapsed())
    }
}

impl Visit {
    pub fn count_call(&self) {
        self.0.calls.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        *self.0.quiet_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.0.visits.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many callers wait for a VM to start.
#[derive(Debug, Default)]
pub(crate) struct Waiters(AtomicU32);

impl Waiters {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many are left.
    pub(crate) fn remove(&self) -> u32 {
        self.0.fetch_sub(1, Ordering::AcqRel) - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_in_use_is_never_idle() {
        let activity = Activity::default();
        let long_ago = Instant::now() - Duration::from_secs(3600);
        assert!(activity.idle(long_ago) >= Some(Duration::from_secs(3600)));
        let visit = activity.visit();
        assert_eq!(activity.idle(long_ago), None);
        drop(visit);
        assert!(activity.idle(long_ago) < Some(Duration::from_secs(3600)));
    }
}
