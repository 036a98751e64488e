//! Where a client's calls are made at the moment, and what that VM reaches while they run, by its egress log.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osvm_egress::hosts::account::{Entry, Outcome, entries};
use osvm_mcp::Mark;

use super::guest::Guest;
use crate::audit::{Egress, Reach, Reached};

/// Hosts that are told of one call.
const MOST: usize = 20;

/// Longest log that is read; none grows longer.
const LONGEST: u64 = 5 << 20;

#[derive(Clone, Default)]
pub(super) struct Place(Arc<Mutex<Now>>);

#[derive(Default)]
struct Now {
    /// VMs so far.
    count: u64,
    seen: Option<Seen>,
}

/// A VM, as records name it.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) vm: String,
    pub(super) image: Option<String>,
    /// Open, so that it can be read when the VM has ended. None where it may reach no host.
    log: Option<Arc<File>>,
    /// From where on its log is about this client.
    from: u64,
}

impl Place {
    pub(super) fn is_in(&self, guest: &Guest) {
        let facts = guest.vm.facts();
        let log = facts.as_ref().and_then(|facts| open(&facts.run_dir));
        // A VM that was started for one call reaches what it does for that call.
        let from = if guest.is_alone() { 0 } else { length(log.as_deref()) };
        let image = facts.map(|facts| facts.image.to_string());
        let mut now = self.now();
        now.count += 1;
        now.seen = Some(Seen { vm: guest.vm.id.to_string(), image, log, from });
    }

    pub(super) fn seen(&self) -> Option<Seen> {
        self.now().seen.clone()
    }

    /// For a call that begins now.
    pub(super) fn mark(&self) -> Mark {
        let now = self.now();
        let log = now.seen.as_ref().and_then(|seen| seen.log.as_deref());
        Mark { place: now.count, at: length(log) }
    }

    /// What the VM has reached since; or since it is this client's, if the call began before that.
    pub(super) fn reached(&self, mark: Mark) -> Option<Egress> {
        let (count, seen) = {
            let now = self.now();
            (now.count, now.seen.clone()?)
        };
        let from = if mark.place == count { mark.at } else { seen.from };
        told(&text(seen.log.as_deref()?, from))
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(run_dir: &Path) -> Option<Arc<File>> {
    File::open(run_dir.join("logs").join("egress.log")).ok().map(Arc::new)
}

fn length(log: Option<&File>) -> u64 {
    log.and_then(|log| log.metadata().ok()).map_or(0, |found| found.len())
}

fn text(log: &File, from: u64) -> String {
    let length = length(Some(log)).saturating_sub(from).min(LONGEST);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    match log.read_exact_at(&mut bytes, from) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

/// Each host once, in the order of the log.
fn told(log: &str) -> Option<Egress> {
    let mut egress = Egress::default();
    let mut known = HashSet::new();
    for reached in entries(log).filter_map(reached) {
        if known.contains(&reached) {
            continue;
        }
        match egress.hosts.len() < MOST {
            true => egress.hosts.push(reached.clone()),
            false => egress.more += 1,
        }
        known.insert(reached);
    }
    (!egress.hosts.is_empty()).then_some(egress)
}

fn reached(entry: Entry) -> Option<Reached> {
    let (host, port, outcome) = match entry {
        Entry::Host(attempt) => {
            let outcome = match attempt.outcome {
                Outcome::Opened => Reach::Allowed,
                Outcome::Failed => Reach::Failed,
                Outcome::Refused(_) => Reach::Refused,
                // It was told when it was opened.
                Outcome::Allowed => return None,
            };
            (attempt.target.host.to_string(), Some(attempt.target.port), outcome)
        }
        Entry::LookedUp(name) => (name, None, Reach::Refused),
        Entry::Path(_) => return None,
    };
    Some(Reached { host, port, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-26T12:00:00Z";

    #[test]
    fn each_host_is_told_once_and_of_many_how_many_more() {
        let log = format!(
            "{TIME} opened api.example.com:443 203.0.113.7\n\
             {TIME} opened api.example.com:443 203.0.113.7\n\
             {TIME} allowed api.example.com:443 203.0.113.7 sent 1 received 2 in 0.1 s\n\
             {TIME} refused evil.com:443: no rule allows it\n\
             {TIME} failed api.example.com:80: connection refused\n\
             {TIME} refused other.com in the guest: no rule allows it\n\
             {TIME} something else\n"
        );
        let told_of = |log: &str| told(log).unwrap_or_default().to_string();
        let hosts = "api.example.com:443, evil.com:443 refused, api.example.com:80 failed, other.com refused";
        assert_eq!(told_of(&log), hosts);
        assert_eq!(
            told(&format!("{TIME} allowed a.com:443 1.2.3.4 sent 1 received 2 in 0.1 s\n")),
            None
        );
        let many: String = (0..90)
            .map(|n| format!("{TIME} refused h{}.com:443: no rule allows it\n", n % 45))
            .collect();
        let egress = told(&many).unwrap();
        assert_eq!((egress.hosts.len(), egress.more), (20, 25));
    }

    #[test]
    fn a_log_is_read_from_where_a_call_began() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let old = format!("{TIME} refused old.com:443: no rule allows it\n");
        std::fs::write(file.path(), &old).unwrap();
        let log = Some(Arc::new(File::open(file.path()).unwrap()));
        let place = Place::default();
        let before = place.mark();
        let seen = Seen { vm: "v".to_owned(), image: None, log, from: 0 };
        *place.now() = Now { count: 1, seen: Some(seen) };
        let mark = place.mark();
        assert_eq!(place.reached(mark), None);
        std::fs::write(file.path(), old + &format!("{TIME} refused new.com:443: no\n")).unwrap();
        let told = |mark| place.reached(mark).unwrap().to_string();
        assert_eq!(told(mark), "new.com:443 refused");
        assert_eq!(told(before), "old.com:443 refused, new.com:443 refused");
    }
}
