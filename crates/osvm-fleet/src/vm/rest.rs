//! Suspending a VM: whoever asks for it is told what came of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::Vm;
use crate::state::{Cause, CauseKind, State};

/// Those who ask, and wait for an answer.
#[derive(Default)]
pub(crate) struct Askers {
    waiting: Mutex<Vec<Asker>>,
    asked: Notify,
}

type Asker = oneshot::Sender<Result<(), Cause>>;

impl<C> Vm<C> {
    /// Has the VM suspended, and returns when it is; an error says why it goes on.
    pub async fn suspend(&self) -> Result<(), Cause> {
        let name = &self.plan.name;
        match self.state() {
            State::Ready => {}
            State::Suspended => return Ok(()),
            state => {
                let message = format!("VM of server {name} can't be suspended: it is {state}");
                return Err(Cause::new(CauseKind::Conflict, message));
            }
        }
        if let Some(why) = self.never() {
            let message = format!("VM of server {name} can't be suspended: {why}");
            let cause = Cause::new(CauseKind::Refused, message);
            return Err(cause.hint(format!("osvm mcp microvm stop {name}")));
        }
        let (tell, told) = oneshot::channel();
        self.askers.waiting().push(tell);
        self.askers.asked.notify_one();
        tokio::select! {
            told = told => match told {
                Ok(told) => told,
                Err(_) => Err(ended(name)),
            },
            _ = self.ended() => Err(ended(name)),
        }
    }

    /// Whether it is suspended, or about to be.
    pub fn is_asleep(&self) -> bool {
        self.agent().is_some_and(|agent| agent.is_asleep())
    }

    pub(crate) fn may_be_suspended(&self) -> bool {
        self.never().is_none()
    }

    /// Why it is never suspended.
    fn never(&self) -> Option<&'static str> {
        let plan = &self.plan;
        if self.is_secret() {
            return Some("its memory may hold secrets, which are written to no file");
        }
        if !plan.folders.is_empty() {
            return Some("it uses folders of the host, which may change meanwhile");
        }
        plan.is_short().then_some("it serves one task, and ends with it")
    }

    pub(crate) async fn asked_to_rest(&self) {
        self.askers.asked.notified().await;
    }

    /// Tells all who have asked.
    pub(crate) fn rests(&self, told: &Result<(), Cause>) {
        let askers = std::mem::take(&mut *self.askers.waiting());
        for asker in askers {
            let _ = asker.send(told.clone());
        }
    }
}

impl Askers {
    fn waiting(&self) -> MutexGuard<'_, Vec<Asker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended(name: &osvm_spec::ServerName) -> Cause {
    let message = format!("VM of server {name} has ended instead of being suspended");
    Cause::new(CauseKind::Machine, message)
}
