//! What one HTTP answer streams to its client. Events are kept until they were taken, and a few of them longer, so that
//! a client which lost its connection goes on where it was.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Bytes of taken events that are kept for a client that comes back.
const KEPT: usize = 16 << 10;
/// Bytes of events that wait for a client which does not read. More of them, and the last one on top, cut it off.
const WAITING: usize = 4 << 20;

/// Messages on their way to one client, in their order.
#[derive(Debug)]
pub(super) struct Outlet {
    /// Tells it from others of its session.
    pub(super) number: u64,
    state: Mutex<State>,
    more: Notify,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    /// Number of the event that was put last; the first one is 1.
    last: u64,
    /// Number of the last one that was taken.
    taken: u64,
    kept: usize,
    waiting: usize,
    is_over: bool,
}

/// One message.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) number: u64,
    pub(super) text: Arc<str>,
    /// The answer, after which there is nothing more.
    pub(super) is_answer: bool,
}

impl Outlet {
    pub(super) fn new(number: u64) -> Arc<Self> {
        Arc::new(Self { number, state: Mutex::default(), more: Notify::new() })
    }

    pub(super) fn put(&self, text: &str) {
        self.lock().put(text, false);
        self.more.notify_waiters();
    }

    pub(super) fn answer(&self, text: &str) {
        {
            let mut state = self.lock();
            state.put(text, true);
            state.is_over = true;
        }
        self.more.notify_waiters();
    }

    /// Nothing more comes, not even an answer.
    pub(super) fn cut(&self) {
        self.lock().is_over = true;
        self.more.notify_waiters();
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// The event that follows number `seen`, or the oldest that is kept; `None` when there will be none.
    pub(super) async fn after(&self, seen: u64) -> Option<Event> {
        loop {
            let more = self.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            {
                let mut state = self.lock();
                if let Some(event) = state.take_after(seen) {
                    return Some(event);
                }
                if state.is_over {
                    return None;
                }
            }
            more.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, text: &str, is_answer: bool) {
        if self.is_over {
            return;
        }
        if self.waiting > WAITING {
            self.is_over = true;
            return;
        }
        self.last += 1;
        self.waiting += text.len();
        self.events.push_back(Event { number: self.last, text: text.into(), is_answer });
    }

    fn take_after(&mut self, seen: u64) -> Option<Event> {
        let first = self.events.front()?.number;
        let at = usize::try_from((seen + 1).saturating_sub(first)).ok()?;
        let event = self.events.get(at)?.clone();
        if event.number > self.taken {
            self.taken = event.number;
            self.waiting -= event.text.len();
            self.kept += event.text.len();
        }
        self.forget();
        Some(event)
    }

    /// The one that was taken last may be under way yet.
    fn forget(&mut self) {
        while self.kept > KEPT
            && let Some(first) = self.events.front().filter(|first| first.number < self.taken)
        {
            self.kept -= first.text.len();
            self.events.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(outlet: &Outlet, mut seen: u64) -> Vec<String> {
        let mut texts = Vec::new();
        while let Some(event) = outlet.lock().take_after(seen) {
            seen = event.number;
            texts.push(event.text.to_string());
        }
        texts
    }

    #[test]
    fn a_client_goes_on_after_what_it_has_seen() {
        let outlet = Outlet::new(1);
        ["a", "b", "c"].iter().for_each(|text| outlet.put(text));
        assert_eq!(texts(&outlet, 0), ["a", "b", "c"]);
        assert_eq!(texts(&outlet, 1), ["b", "c"]);
        outlet.answer("d");
        outlet.put("never");
        assert_eq!(texts(&outlet, 3), ["d"]);
    }

    #[test]
    fn what_was_taken_is_kept_for_a_while_only() {
        let outlet = Outlet::new(1);
        for _ in 0..100 {
            outlet.put(&"x".repeat(1 << 10));
        }
        assert_eq!(texts(&outlet, 0).len(), 100);
        assert_eq!(texts(&outlet, 0).len(), KEPT >> 10);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_cut_off() {
        let outlet = Outlet::new(1);
        while !outlet.is_over() {
            outlet.put(&"x".repeat(1 << 20));
        }
        assert_eq!(texts(&outlet, 0).len(), (WAITING >> 20) + 1);
        assert!(outlet.after(5).await.is_none());
    }
}
