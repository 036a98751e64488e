//! What one HTTP answer streams to its client. Events are kept until they were taken, and a few of them longer, so that
//! a client which lost its connection goes on where it was.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Bytes of taken events that are kept for a client that comes back.
const KEPT: usize = 16 << 10;
/// Longest event that is kept so.
const LONGEST_KEPT: usize = 256 << 10;
/// Bytes of events that wait for a client which does not read. Once there are more, what comes is lost, but for the
/// answer.
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
    /// Readers so far. The last one is the one that reads.
    readers: u64,
}

/// One message.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) number: u64,
    pub(super) text: Arc<str>,
    /// The answer, after which there is nothing more.
    pub(super) is_answer: bool,
}

/// Takes events, until there will be no more or another one reads.
pub(super) struct Reader {
    outlet: Arc<Outlet>,
    number: u64,
    seen: u64,
}

impl Outlet {
    pub(super) fn new(number: u64) -> Arc<Self> {
        Arc::new(Self { number, state: Mutex::default(), more: Notify::new() })
    }

    /// One that holds nothing but an answer.
    pub(super) fn answered(number: u64, text: &str) -> Arc<Self> {
        let outlet = Self::new(number);
        outlet.answer(text);
        outlet
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

    /// From what nobody has taken yet.
    pub(super) fn read(self: &Arc<Self>) -> Reader {
        let taken = self.lock().taken;
        self.reader(taken)
    }

    /// From after event `seen` on, or the oldest that is kept; `None` if there is no such event yet.
    pub(super) fn read_after(self: &Arc<Self>, seen: u64) -> Option<Reader> {
        let last = self.lock().last;
        (seen <= last).then(|| self.reader(seen))
    }

    fn reader(self: &Arc<Self>, seen: u64) -> Reader {
        let number = {
            let mut state = self.lock();
            state.readers += 1;
            state.readers
        };
        self.more.notify_waiters();
        Reader { outlet: Arc::clone(self), number, seen }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    pub(super) fn stream(&self) -> u64 {
        self.outlet.number
    }

    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            let more = self.outlet.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            {
                let mut state = self.outlet.lock();
                if state.readers != self.number {
                    return None;
                }
                if let Some(event) = state.take_after(self.seen) {
                    self.seen = event.number;
                    return Some(event);
                }
                if state.is_over {
                    return None;
                }
            }
            more.await;
        }
    }

    /// Goes by what comes before it.
    pub(super) async fn answer(&mut self) -> Option<Arc<str>> {
        loop {
            let event = self.next().await?;
            if event.is_answer {
                return Some(event.text);
            }
        }
    }
}

impl State {
    fn put(&mut self, text: &str, is_answer: bool) {
        if self.is_over || (self.waiting > WAITING && !is_answer) {
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
            && let Some(first) = self.events.front()
            && (first.number < self.taken
                || (first.number == self.taken && first.text.len() > LONGEST_KEPT))
        {
            self.kept -= first.text.len();
            self.events.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn texts(mut reader: Reader) -> Vec<String> {
        reader.outlet.cut();
        let mut texts = Vec::new();
        while let Some(event) = reader.next().await {
            texts.push(event.text.to_string());
        }
        texts
    }

    #[tokio::test]
    async fn a_client_goes_on_after_what_it_has_seen() {
        let outlet = Outlet::new(1);
        ["a", "b", "c"].iter().for_each(|text| outlet.put(text));
        let mut first = outlet.read();
        assert_eq!(&*first.next().await.unwrap().text, "a");
        outlet.answer("d");
        outlet.put("never");
        assert_eq!(texts(outlet.read()).await, ["b", "c", "d"]);
        // Another one has read.
        assert!(first.next().await.is_none());
        assert_eq!(texts(outlet.read_after(2).unwrap()).await, ["c", "d"]);
        assert_eq!(texts(outlet.read_after(4).unwrap()).await, [""; 0]);
        assert!(outlet.read_after(5).is_none() && outlet.read_after(u64::MAX).is_none());
    }

    #[tokio::test]
    async fn what_was_taken_is_kept_for_a_while_only() {
        let outlet = Outlet::new(1);
        for _ in 0..100 {
            outlet.put(&"x".repeat(1 << 10));
        }
        assert_eq!(texts(outlet.read()).await.len(), 100);
        assert_eq!(texts(outlet.read_after(0).unwrap()).await.len(), KEPT >> 10);
        let outlet = Outlet::answered(1, &"x".repeat(1 << 20));
        assert_eq!(texts(outlet.read()).await.len(), 1);
        assert_eq!(texts(outlet.read_after(0).unwrap()).await.len(), 0);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_loses_what_is_too_much_and_gets_its_answer() {
        let outlet = Outlet::new(1);
        for _ in 0..20 {
            outlet.put(&"x".repeat(1 << 20));
        }
        outlet.answer("answer");
        let texts = texts(outlet.read()).await;
        assert_eq!(texts.len(), (WAITING >> 20) + 2);
        assert_eq!(texts.last().unwrap(), "answer");
    }
}
