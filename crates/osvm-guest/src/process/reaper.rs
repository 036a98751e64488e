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
    expected: Mutex<BTreeMap<i32, oneshot::Sender<Outcome>>>,
    /// As PID 1 every process without a parent is ours to reap. Elsewhere only those expected are touched.
    as_init: bool,
}

impl Reaper {
    /// Starts reaping. To be called inside a Tokio runtime.
    pub(crate) fn start(as_init: bool) -> io::Result<Arc<Self>> {
        let mut children = signal(SignalKind::child())?;
        let reaper = Arc::new(Self { expected: Mutex::default(), as_init });
        let weak = Arc::downgrade(&reaper);
        tokio::spawn(async move {
            while children.recv().await.is_some() {
                let Some(reaper) = weak.upgrade() else { return };
                reaper.reap();
            }
        });
        Ok(reaper)
    }

    /// To be called right after the process was started.
    pub(crate) fn expect(&self, pid: Pid) -> Ended {
        let (sender, ended) = oneshot::channel();
        self.lock().insert(pid.as_raw_nonzero().get(), sender);
        // It may be gone already, and its signal with it.
        self.reap_one(pid);
        ended
    }

    fn reap(&self) {
        if self.as_init {
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                self.deliver(pid, status);
            }
        } else {
            let pids: Vec<i32> = self.lock().keys().copied().collect();
            pids.into_iter().filter_map(Pid::from_raw).for_each(|pid| self.reap_one(pid));
        }
    }

    fn reap_one(&self, pid: Pid) {
        if let Ok(Some((pid, status))) = waitpid(Some(pid), WaitOptions::NOHANG) {
            self.deliver(pid, status);
        }
    }

    fn deliver(&self, pid: Pid, status: WaitStatus) {
        let outcome = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Outcome::Code(code),
            (None, Some(signal)) => Outcome::Signal(signal),
            (None, None) => return,
        };
        if let Some(sender) = self.lock().remove(&pid.as_raw_nonzero().get()) {
            // Whoever asked may have lost interest.
            let _ = sender.send(outcome);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, oneshot::Sender<Outcome>>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
