//! Templates that nobody waits for: those in whose machines a server has run for once, so that its image's pages are in
//! the memory that all clones share. A server's first VM is not kept waiting for one. It is made in a quiet moment, when
//! no VM has had anything to do for a while, one at a time, and later VMs begin from it.
//!
//! ```text
//!   VM begins ── from a template without warm pages ──> wanted
//!   quiet moment ──> one of those wanted is made ([`Life::rehearse`])
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use osvm_spec::{Hosts, Secrets, TemplateLevel};
use tokio::task::JoinHandle;

use crate::admission::Origin;
use crate::fleet::Workshop;
use crate::greeter::Greeter;
use crate::id::VmId;
use crate::life::Life;
use crate::plan::Plan;
use crate::state::State;
use crate::vm::Vm;

/// Wanted at a time. Beyond that, one is wanted again when its server's next VM begins.
const MOST: usize = 32;

/// All of one fleet.
#[derive(Default)]
pub(crate) struct Rehearsals {
    wanted: Mutex<HashMap<String, Wanted>>,
    now: Mutex<Option<Now>>,
}

struct Wanted {
    plan: Plan,
    /// When a VM began last that would have begun from it.
    since: Instant,
}

/// The one that is being made.
struct Now {
    stop: Box<dyn Fn() + Send>,
    made: JoinHandle<()>,
}

impl Rehearsals {
    /// Once for VMs of one plan, whatever their names, and what they are given later.
    pub(crate) fn want(&self, plan: &Plan) {
        let plan = Plan {
            name: plan.server().clone(),
            env: Vec::new(),
            secrets: Secrets::default(),
            hosts: Hosts::default(),
            folders: Vec::new(),
            record: false,
            server: None,
            once: false,
            ..plan.clone()
        };
        let Ok(name) = serde_json::to_string(&plan) else { return };
        let mut wanted = lock(&self.wanted);
        if wanted.len() < MOST || wanted.contains_key(&name) {
            wanted.insert(name, Wanted { plan, since: Instant::now() });
        }
    }

    fn is_busy(&self) -> bool {
        lock(&self.now).as_ref().is_some_and(|now| !now.made.is_finished())
    }

    /// The one that was wanted first and fits.
    fn next(&self, fits: impl Fn(&Plan) -> bool) -> Option<Plan> {
        let mut wanted = lock(&self.wanted);
        let all = wanted.iter().filter(|(_, wanted)| fits(&wanted.plan));
        let first = all.min_by_key(|(_, wanted)| wanted.since).map(|(name, _)| name.clone())?;
        wanted.remove(&first).map(|wanted| wanted.plan)
    }

    fn is_quiet(&self, quiet: Duration) -> bool {
        lock(&self.wanted).values().all(|wanted| wanted.since.elapsed() >= quiet)
    }

    /// Ends the one that is being made, and forgets those wanted; returns when nothing of it is left.
    pub(crate) async fn clear(&self) {
        lock(&self.wanted).clear();
        let now = lock(&self.now).take();
        if let Some(Now { stop, made }) = now {
            stop();
            let _ = made.await;
        }
    }
}

impl<G: Greeter> Workshop<G> {
    /// Begins with one that is wanted, if no VM has had anything to do for that long. Whether one is being made.
    pub(crate) fn rehearse_if_quiet(self: &Arc<Self>, quiet: Duration) -> bool {
        let rehearsals = &self.rehearsals;
        let is_still = |vm: &Arc<Vm<G::Conversation>>| match vm.state() {
            State::Ready => vm.activity.still(vm.launched).is_some_and(|still| still >= quiet),
            State::Suspended | State::Stopped | State::Failed(_) => true,
            State::Preparing | State::Booting | State::Stopping => false,
        };
        if rehearsals.is_busy() {
            return true;
        }
        if !rehearsals.is_quiet(quiet) || !self.all().iter().all(is_still) {
            return false;
        }
        let fits = |plan: &Plan| !self.admission.is_short(&booting(plan), Origin::New);
        let Some(plan) = rehearsals.next(fits) else { return false };
        let vm = Vm::new(VmId::random(), plan, SystemTime::now(), State::Preparing);
        let vm = Arc::new(vm);
        let life = Life::rehearse(Arc::clone(self), Arc::clone(&vm));
        let made = tokio::spawn({
            let name = vm.plan.name.clone();
            async move {
                match life.await {
                    Ok(()) => tracing::info!(%name, "rehearsed"),
                    Err(cause) => tracing::info!(%name, %cause, "no rehearsal"),
                }
            }
        });
        let stop = Box::new(move || vm.ask_to_stop());
        *lock(&rehearsals.now) = Some(Now { stop, made });
        true
    }
}

/// That of a VM that needs as much memory as the one that is to be the template: it boots.
pub(crate) fn booting(plan: &Plan) -> Plan {
    Plan { template: TemplateLevel::None, ..plan.clone() }
}

/// Nothing that panics runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
