//! Clones that wait, paused, for VMs that serve one request each: what they were restored from is the template that such
//! a VM would begin from, so it only has to be resumed.
//!
//! ```text
//!   VM begins ── takes one ──> goes on as a clone, under the id and in the run directory of that one
//!       │
//!       └── asks ──> keeper of VMs like it: restores as many as were asked for lately
//!                                           ends them when nobody asks any more
//! ```
//!
//! A shelf holds those for VMs of one plan, whatever their names and their secrets, of which none is in there: names and
//! secrets come after the resume, as folders do.

mod demand;
mod keeper;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osvm_spec::{Secrets, TemplateLevel};
use osvm_vmm::Running;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::fleet::Workshop;
use crate::greeter::Greeter;
use crate::id::VmId;
use crate::plan::Plan;
use crate::rundir::RunDir;
use crate::templates::Key;
use demand::Demand;

/// All of one fleet.
#[derive(Default)]
pub(crate) struct Spares {
    shelves: Mutex<HashMap<String, Arc<Shelf>>>,
    keepers: Mutex<JoinSet<()>>,
}

/// A clone that nobody has resumed yet. Whoever takes it ends it.
pub(crate) struct Spare {
    pub(crate) id: VmId,
    pub(crate) dir: RunDir,
    pub(crate) machine: Arc<dyn Running>,
    /// Of the template that it was restored from.
    pub(crate) key: Key,
    /// What it takes while it waits, in bytes.
    pub(crate) memory: u64,
}

/// For VMs of one plan.
struct Shelf {
    plan: Plan,
    held: Mutex<Held>,
    /// Something was asked for, or nothing is any more.
    changed: Notify,
}

#[derive(Default)]
struct Held {
    waiting: Vec<Spare>,
    demand: Demand,
    is_closed: bool,
}

impl Spares {
    /// One for a VM of that plan, if there is one; more are made for those that come after it.
    pub(crate) fn take<G: Greeter>(
        &self,
        workshop: &Arc<Workshop<G>>,
        plan: &Plan,
    ) -> Option<Spare> {
        self.shelf(workshop, plan)?.take()
    }

    /// What the one takes that waits for a VM of that plan, if one does.
    pub(crate) fn waiting(&self, plan: &Plan) -> Option<u64> {
        let (name, _) = on_shelf(plan)?;
        let shelf = lock(&self.shelves).get(&name).cloned()?;
        let held = shelf.held();
        held.waiting.iter().rev().find(|spare| spare.lives()).map(|spare| spare.memory)
    }

    /// A VM of that plan is ready, however long that has taken: the next one is to be expected from now on.
    pub(crate) fn served<G: Greeter>(&self, workshop: &Arc<Workshop<G>>, plan: &Plan) {
        if let Some(shelf) = self.shelf(workshop, plan) {
            shelf.held().demand.served();
            shelf.changed.notify_one();
        }
    }

    /// Where those for VMs of that plan are, if any are made.
    fn shelf<G: Greeter>(&self, workshop: &Arc<Workshop<G>>, plan: &Plan) -> Option<Arc<Shelf>> {
        let (name, plan) = on_shelf(plan)?;
        let mut shelves = lock(&self.shelves);
        let open = shelves.get(&name).filter(|shelf| !shelf.held().is_closed);
        let shelf = open.cloned().unwrap_or_else(|| {
            let shelf = Arc::new(Shelf::of(plan));
            let keeper = keeper::keep(Arc::clone(workshop), Arc::clone(&shelf));
            let mut keepers = lock(&self.keepers);
            while keepers.try_join_next().is_some() {}
            keepers.spawn(keeper);
            shelf
        });
        shelves.retain(|_, other| !other.held().is_closed);
        shelves.insert(name, Arc::clone(&shelf));
        Some(shelf)
    }

    /// Ends those that wait, and returns when they have gone; whether there were any. No more are made until somebody asks.
    pub(crate) async fn give_up(&self) -> bool {
        let shelves: Vec<_> = lock(&self.shelves).drain().map(|(_, shelf)| shelf).collect();
        let waiting: Vec<_> = shelves.iter().flat_map(|shelf| shelf.close()).collect();
        if waiting.is_empty() {
            return false;
        }
        let (tell, told) = oneshot::channel();
        // Whoever waits for it may leave: it is not left half done.
        lock(&self.keepers).spawn(async move {
            discard(waiting).await;
            let _ = tell.send(());
        });
        let _ = told.await;
        true
    }

    /// Ends all that are there, and returns when they have gone.
    pub(crate) async fn clear(&self) {
        self.give_up().await;
        let mut keepers = std::mem::take(&mut *lock(&self.keepers));
        while keepers.join_next().await.is_some() {}
    }
}

impl Shelf {
    fn of(plan: Plan) -> Self {
        Self { plan, held: Mutex::default(), changed: Notify::new() }
    }

    /// One that still runs.
    fn take(&self) -> Option<Spare> {
        let mut held = self.held();
        held.demand.asked();
        self.changed.notify_one();
        std::iter::from_fn(|| held.waiting.pop()).find(Spare::lives)
    }

    /// Of no use any more, once its keeper has seen it; with what was on it.
    fn close(&self) -> Vec<Spare> {
        let mut held = self.held();
        held.is_closed = true;
        self.changed.notify_one();
        std::mem::take(&mut held.waiting)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        lock(&self.held)
    }
}

impl Spare {
    fn lives(&self) -> bool {
        self.machine.process().try_exited().is_none()
    }

    async fn discard(self) {
        self.machine.end().await;
        self.dir.discard();
    }
}

/// What the shelf for VMs of that plan is called, and what those on it are restored for, if any are made.
fn on_shelf(plan: &Plan) -> Option<(String, Plan)> {
    if !plan.once || plan.template == TemplateLevel::None {
        return None;
    }
    let plan = Plan { name: plan.server().clone(), secrets: Secrets::default(), ..plan.clone() };
    Some((serde_json::to_string(&plan).ok()?, plan))
}

async fn discard(spares: Vec<Spare>) {
    futures::future::join_all(spares.into_iter().map(Spare::discard)).await;
}

/// Nothing that panics runs under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
