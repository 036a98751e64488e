//! Who uses a VM, and since when nobody does; who waits for it to do something, and since when nobody does.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Work that is under way.
    works: AtomicU32,
    /// End of the last.
    still_since: Mutex<Option<Instant>>,
}

/// As long as it lives, the VM is in use.
#[derive(Debug)]
pub struct Visit {
    counts: Arc<Counts>,
    /// None while the visitor waits for nothing.
    work: Mutex<Option<Work>>,
}

/// As long as it lives, the VM has something to do.
#[derive(Debug)]
pub(crate) struct Work(Arc<Counts>);

impl Activity {
    /// One that has the VM work until [`Visit::rest`].
    pub(crate) fn visit(&self) -> Visit {
        self.0.visits.fetch_add(1, Ordering::Relaxed);
        Visit { counts: Arc::clone(&self.0), work: Mutex::new(Some(self.work())) }
    }

    pub(crate) fn work(&self) -> Work {
        Work::of(&self.0)
    }

    pub(crate) fn works(&self) -> bool {
        self.0.works.load(Ordering::Acquire) > 0
    }

    /// How long the VM has had nothing to do, counted from `start` when it never had. None while it has.
    pub(crate) fn still(&self, start: Instant) -> Option<Duration> {
        if self.works() {
            return None;
        }
        Some(lock(&self.0.still_since).unwrap_or(start).elapsed())
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
        Some(lock(&self.0.quiet_since).unwrap_or(start).elapsed())
    }
}

impl Visit {
    pub fn count_call(&self) {
        self.counts.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// The visitor stays, and waits for nothing: meanwhile the VM may be suspended.
    pub fn rest(&self) {
        lock(&self.work).take();
    }

    /// The visitor waits for the VM to do something.
    pub fn work(&self) {
        lock(&self.work).get_or_insert_with(|| Work::of(&self.counts));
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        *lock(&self.counts.quiet_since) = Some(Instant::now());
        self.counts.visits.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Work {
    fn of(counts: &Arc<Counts>) -> Self {
        counts.works.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(counts))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        *lock(&self.0.still_since) = Some(Instant::now());
        self.0.works.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Nothing that panics runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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

    #[test]
    fn a_visitor_who_waits_for_nothing_gives_the_vm_nothing_to_do() {
        let activity = Activity::default();
        let long_ago = Instant::now() - Duration::from_secs(3600);
        assert!(activity.still(long_ago) >= Some(Duration::from_secs(3600)));
        let visits = [activity.visit(), activity.visit()];
        visits[0].rest();
        visits[0].rest();
        assert_eq!(activity.still(long_ago), None, "the other one does not rest");
        visits[1].rest();
        assert!(activity.still(long_ago) < Some(Duration::from_secs(3600)));
        assert_eq!(activity.idle(long_ago), None, "they are there");
        visits[1].work();
        assert!(activity.works());
        drop(visits);
        assert!(!activity.works() && activity.idle(long_ago).is_some());
    }
}
