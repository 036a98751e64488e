//! Waits for processes: for those somebody asked about, and as PID 1 for every orphan too.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osvm_wire::message::Outcome;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait, waitpid};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Tells how a process ended.
pub(crate) type Ended = oneshot::Receiver<Outcome>;

/// The one place that waits for processes, so that nobody takes another's exit status.
pub(crate) struct Reaper {
    state: Mutex<State>,
    /// As PID 1 every process without a parent is ours to reap. Elsewhere only those expected are touched.
    as_init: bool,
}

#[derive(Default)]
struct State {
    expected: BTreeMap<i32, oneshot::Sender<Outcome>>,
    /// How many processes are being started. Meanwhile no unknown one is reaped: it may be theirs.
    starting: usize,
}

impl Reaper {
    /// Starts reaping. To be called inside a Tokio runtime.
    pub(crate) fn start(as_init: bool) -> io::Result<Arc<Self>> {
        let mut children = signal(SignalKind::child())?;
        let reaper = Arc::new(Self { state: Mutex::default(), as_init });
        let weak = Arc::downgrade(&reaper);
        tokio::spawn(async move {
            while children.recv().await.is_some() {
                let Some(reaper) = weak.upgrade() else { return };
                reaper.reap();
            }
        });
        Ok(reaper)
    }

    /// Starts a process, and tells how it ends. May be called on any thread.
    pub(crate) fn start_one<T: HasPid, E>(
        &self,
        start: impl FnOnce() -> Result<T, E>,
    ) -> Result<(T, Ended), E> {
        self.lock().starting += 1;
        let started = start();
        let mut state = self.lock();
        state.starting -= 1;
        let expected = started.map(|started| {
            let ended = state.expect(started.pid());
            (started, ended)
        });
        // What ended meanwhile was left.
        state.reap(self.as_init);
        expected
    }

    fn reap(&self) {
        self.lock().reap(self.as_init);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process that was started.
pub(crate) trait HasPid {
    fn pid(&self) -> Pid;
}

impl State {
    fn expect(&mut self, pid: Pid) -> Ended {
        let (sender, ended) = oneshot::channel();
        self.expected.insert(pid.as_raw_nonzero().get(), sender);
        ended
    }

    fn reap(&mut self, as_init: bool) {
        if as_init && self.starting == 0 {
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                self.deliver(pid, status);
            }
        } else {
            let pids: Vec<i32> = self.expected.keys().copied().collect();
            pids.into_iter().filter_map(Pid::from_raw).for_each(|pid| self.reap_one(pid));
        }
    }

    fn reap_one(&mut self, pid: Pid) {
        if let Ok(Some((pid, status))) = waitpid(Some(pid), WaitOptions::NOHANG) {
            self.deliver(pid, status);
        }
    }

    fn deliver(&mut self, pid: Pid, status: WaitStatus) {
        let outcome = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Outcome::Code(code),
            (None, Some(signal)) => Outcome::Signal(signal),
            (None, None) => return,
        };
        if let Some(sender) = self.expected.remove(&pid.as_raw_nonzero().get()) {
            // Whoever asked may have lost interest.
            let _ = sender.send(outcome);
        }
    }
}
