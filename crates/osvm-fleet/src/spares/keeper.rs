//! Keeps a shelf filled, for as long as anything is asked of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use osvm_vmm::{Driver, Running, Template};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use super::{Held, Shelf, Spare, discard};
use crate::admission::{Origin, Place};
use crate::drivers::vmm_cause;
use crate::fleet::Workshop;
use crate::greeter::Greeter;
use crate::id::VmId;
use crate::life::{machine, machine_cause};
use crate::memory::Memory;
use crate::plan::Plan;
use crate::prepare::Prepared;
use crate::record::Record;
use crate::rundir::RunDir;
use crate::state::{Cause, CauseKind};
use crate::templates::{Beginning, Key};

/// How long until it is tried again where none could be made.
const TRIED_EVERY: Duration = Duration::from_secs(1);

/// How long VMs that start come first, such as the one that has taken a clone from here.
const GIVES_WAY: Duration = Duration::from_secs(1);

/// What there is to do.
enum Next {
    Make,
    Wait(Instant),
    End,
}

/// All that it takes to restore one.
struct Means<'a> {
    prepared: Prepared,
    template: Arc<dyn Template>,
    key: Key,
    _place: Place<'a>,
}

/// Until nobody has asked for a long time, or the shelf is closed. Nothing is left on it then.
pub(super) async fn keep<G: Greeter>(workshop: Arc<Workshop<G>>, shelf: Arc<Shelf>) {
    loop {
        let next = shelf.held().next();
        let until = match next {
            Next::Make => match make(&workshop, &shelf).await {
                Ok(()) => continue,
                // The template is made by the first VM that asks.
                Err(cause) => {
                    tracing::debug!(server = %shelf.plan.name, %cause, "no clone waits");
                    Instant::now() + TRIED_EVERY
                }
            },
            Next::Wait(until) => until,
            Next::End => break,
        };
        tokio::select! {
            () = shelf.changed.notified() => {}
            () = sleep_until(until) => {}
        }
    }
    discard(shelf.close()).await;
}

impl Held {
    fn next(&mut self) -> Next {
        let (wanted, until) = self.demand.now();
        // Nobody may put any there, or ask for one, afterwards.
        self.is_closed |= wanted == 0;
        match self.is_closed {
            true => Next::End,
            false if self.waiting.len() < wanted => Next::Make,
            false => Next::Wait(until.into()),
        }
    }
}

impl Shelf {
    async fn closed(&self) {
        while !self.held().is_closed {
            self.changed.notified().await;
        }
    }
}

/// Puts one more there. An error is no fault of anybody's: VMs begin as others do. Not given up halfway: a VMM half started
/// would be nobody's.
async fn make<G: Greeter>(workshop: &Workshop<G>, shelf: &Shelf) -> Result<(), Cause> {
    let means = tokio::select! {
        means = means(workshop, &shelf.plan) => means?,
        () = shelf.closed() => return Ok(()),
    };
    let id = VmId::random();
    let dir =
        RunDir::make(&workshop.settings.runtime_dir, &id).map_err(|error| machine_cause(&error))?;
    match restore(workshop, &shelf.plan, &means, (&id, &dir)).await {
        Ok((machine, memory)) => {
            let spare = Spare { id, dir, machine: machine.into(), key: means.key, memory };
            shelf.held().waiting.push(spare);
            Ok(())
        }
        Err(cause) => {
            dir.discard();
            Err(cause)
        }
    }
}

/// Nothing where it can't be told.
async fn taken<G: Greeter>(workshop: &Workshop<G>, machine: &dyn Running) -> u64 {
    let memory = Memory::measured(&workshop.settings.proc, machine.process().identity().pid);
    memory.await.map_or(0, |memory| memory.proportional)
}

async fn means<'a, G: Greeter>(workshop: &'a Workshop<G>, plan: &Plan) -> Result<Means<'a>, Cause> {
    let (preparer, wanted) = (workshop.preparer.clone(), plan.clone());
    let prepared = spawn_blocking(move || preparer.prepare(&wanted)).await;
    let prepared = prepared.map_err(|error| machine_cause(&error))??;
    let driver = workshop.drivers.get(plan.hypervisor).await?;
    let beginnings = Beginning::all(plan, &prepared, &*driver, &workshop.settings.proc);
    let beginnings = beginnings.map_err(|error| machine_cause(&error))?;
    let (key, template) = first(workshop, beginnings, &*driver).await.ok_or_else(|| {
        Cause::new(CauseKind::Machine, "there is no template that it could be restored from")
    })?;
    workshop.admission.quiet(GIVES_WAY).await;
    let place = workshop.admission.enter(plan, Origin::New).await?;
    Ok(Means { prepared, template, key, _place: place })
}

/// Written down before and after, so that a later daemon ends it. With the memory that it takes.
async fn restore<G: Greeter>(
    workshop: &Workshop<G>,
    plan: &Plan,
    means: &Means<'_>,
    (id, dir): (&VmId, &RunDir),
) -> Result<(Box<dyn Running>, u64), Cause> {
    let mut record = Record {
        home: workshop.settings.home.clone(),
        id: id.clone(),
        plan: plan.clone(),
        created: SystemTime::now(),
        machine: None,
        folders: Vec::new(),
        ready: None,
        rest: None,
    };
    record.save(&dir.record()).map_err(|error| machine_cause(&error))?;
    let restored = means.template.restore(&machine(plan, id, dir, &means.prepared)).await;
    let machine = restored.map_err(|error| vmm_cause(&error))?;
    let memory = taken(workshop, &*machine).await;
    record.machine = Some(machine.saved());
    if let Err(error) = record.save(&dir.record()) {
        machine.end().await;
        return Err(machine_cause(&error));
    }
    Ok((machine, memory))
}

/// The best template that there is.
async fn first<G: Greeter>(
    workshop: &Workshop<G>,
    beginnings: Vec<Beginning>,
    driver: &dyn Driver,
) -> Option<(Key, Arc<dyn Template>)> {
    for Beginning { key, .. } in beginnings {
        let template = workshop.templates.place(key.clone()).await.open(driver).await;
        if let Some(template) = template {
            return Some((key, template));
        }
    }
    None
}
