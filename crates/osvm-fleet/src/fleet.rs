//! All VMs of one user: at most one for each server name, launched in bounded parallel.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use osvm_egress::hosts::Relay;
use osvm_spec::ServerName;

use crate::admission::Admission;
use crate::drivers::Drivers;
use crate::folders::Own;
use crate::greeter::Greeter;
use crate::id::VmId;
use crate::life::Life;
use crate::plan::{Plan, StartedBy};
use crate::prepare::Preparer;
use crate::rehearsals::Rehearsals;
use crate::spares::Spares;
use crate::state::{Cause, CauseKind, State};
use crate::templates::Templates;
use crate::vm::Vm;

/// Where the fleet works and how much at once.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `$OSVM_HOME`: VMs of another home are left alone.
    pub home: PathBuf,
    /// Holds a run directory for each VM.
    pub runtime_dir: PathBuf,
    /// Keeps the logs of VMs that have stopped.
    pub logs_dir: PathBuf,
    /// VMs that start at the same time; more wait for their turn.
    pub parallel_launches: usize,
    /// `/proc`, for what the host has.
    pub proc: PathBuf,
    /// How long a guest may sleep while it boots, before it is started once more.
    pub asleep_after: Duration,
    /// Connects guests to hosts; without it no VM can have any.
    pub relay: Option<Arc<Relay>>,
}

impl Settings {
    pub(crate) fn own(&self) -> Own<'_> {
        Own { home: &self.home, runtime: &self.runtime_dir }
    }
}

/// Every VM of this home.
pub struct Fleet<G: Greeter> {
    workshop: Arc<Workshop<G>>,
}

/// What every life needs.
pub(crate) struct Workshop<G: Greeter> {
    pub(crate) settings: Settings,
    pub(crate) drivers: Drivers,
    pub(crate) preparer: Preparer,
    pub(crate) greeter: G,
    pub(crate) templates: Templates,
    pub(crate) spares: Spares,
    pub(crate) rehearsals: Rehearsals,
    pub(crate) admission: Admission,
    table: Mutex<Table<G::Conversation>>,
}

/// How long a VM may be idle; without a limit, for ever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Idle {
    /// Until one that has nothing to do is suspended, whoever is connected to it.
    pub suspend: Option<Duration>,
    /// Until one that nobody is connected to is ended,
    pub stop: Option<Duration>,
    /// also if it is suspended.
    pub stop_suspended: Option<Duration>,
}

type Table<C> = HashMap<ServerName, Arc<Vm<C>>>;

/// A launch that has begun. Dropped before the VM is ready, it stops the VM, unless others wait for it too.
pub struct Launch<C> {
    vm: Arc<Vm<C>>,
}

impl<G: Greeter> Fleet<G> {
    /// Takes back the VMs of an earlier daemon, and ends what was half done.
    pub async fn open(
        settings: Settings,
        drivers: Drivers,
        preparer: Preparer,
        greeter: G,
    ) -> Arc<Self> {
        let admission = Admission::new(settings.proc.clone(), settings.parallel_launches);
        let table = Mutex::default();
        let templates = Templates::in_home(&settings.home);
        let (spares, rehearsals) = Default::default();
        let workshop = Workshop {
            settings,
            drivers,
            preparer,
            greeter,
            templates,
            spares,
            rehearsals,
            admission,
            table,
        };
        let fleet = Arc::new(Self { workshop: Arc::new(workshop) });
        fleet.workshop.templates.sweep();
        crate::adopt::adopt(&fleet.workshop).await;
        fleet
    }

    pub fn greeter(&self) -> &G {
        &self.workshop.greeter
    }

    /// Starts a VM that must not exist yet.
    pub async fn launch(&self, plan: Plan) -> Result<Launch<G::Conversation>, Cause> {
        self.workshop.make_room(&plan).await;
        self.workshop.admit(&plan)?;
        let mut table = self.workshop.table();
        if let Some(vm) = table.get(&plan.name).filter(|vm| !vm.state().is_end()) {
            return Err(already(vm));
        }
        Ok(self.begin(&mut table, plan))
    }

    /// The VM of that name, ready: the one there is, or a new one.
    pub async fn ensure(&self, plan: Plan) -> Result<Arc<Vm<G::Conversation>>, Cause> {
        loop {
            if self.get(&plan.name).is_none_or(|vm| vm.state().is_end()) {
                self.workshop.make_room(&plan).await;
            }
            let launch = match self.join_or_begin(&plan)? {
                Ok(launch) => launch,
                // On its way down: its name is free when it has gone.
                Err(leaving) => {
                    leaving.ended().await;
                    continue;
                }
            };
            return launch.ready().await;
        }
    }

    pub fn get(&self, name: &ServerName) -> Option<Arc<Vm<G::Conversation>>> {
        self.workshop.table().get(name).cloned()
    }

    /// By name. VMs that failed stay listed until their name is launched or stopped again.
    pub fn list(&self) -> Vec<Arc<Vm<G::Conversation>>> {
        let mut all = self.workshop.all();
        all.sort_by(|a, b| a.plan.name.cmp(&b.plan.name));
        all
    }

    /// Ends a VM, or forgets one that has failed. Answers when nothing of it is left.
    pub async fn stop(&self, name: &ServerName) -> Option<Arc<Vm<G::Conversation>>> {
        let vm = self.get(name)?;
        self.end(&vm).await;
        Some(vm)
    }

    /// The same, of that very VM, even if its name is another's by now.
    pub async fn end(&self, vm: &Arc<Vm<G::Conversation>>) {
        vm.ask_to_stop();
        vm.ended().await;
        self.workshop.forget(vm);
    }

    /// Ends the clones that wait for VMs to come, and the VM that is to be their template, and returns when they have gone.
    pub async fn clear_spares(&self) {
        tokio::join!(self.workshop.spares.clear(), self.workshop.rehearsals.clear());
    }

    /// Begins to make a template that is wanted and that nobody waits for, if no VM has had anything to do for that long.
    /// Whether one is being made.
    pub fn rehearse_if_quiet(&self, quiet: Duration) -> bool {
        self.workshop.rehearse_if_quiet(quiet)
    }

    /// Closes the templates from which no VM has begun for that long and none that runs has, which frees what they take of
    /// the memory. They are opened again when they are needed.
    pub fn close_templates(&self, unused: Duration) {
        self.workshop.close_templates(unused, None);
    }

    /// Suspends a VM: its memory goes to disk and its process away, until somebody wants something of it.
    pub async fn suspend(
        &self,
        name: &ServerName,
    ) -> Result<Option<Arc<Vm<G::Conversation>>>, Cause> {
        let Some(vm) = self.get(name) else { return Ok(None) };
        vm.suspend().await?;
        Ok(Some(vm))
    }

    /// Suspends or ends those VMs that osvm started by itself and that nobody has used for so long; returns when the next
    /// one could be due, also of those that are yet to come. Without limits, none ever is.
    pub fn settle_idle(&self, limits: &Idle) -> Option<Duration> {
        let due = self.list().iter().filter_map(|vm| settle(vm, limits)).min();
        let Idle { suspend, stop, stop_suspended } = *limits;
        due.into_iter().chain([suspend, stop, stop_suspended].into_iter().flatten()).min()
    }

    #[expect(clippy::type_complexity, reason = "a launch, or the VM that is in its way")]
    fn join_or_begin(
        &self,
        plan: &Plan,
    ) -> Result<Result<Launch<G::Conversation>, Arc<Vm<G::Conversation>>>, Cause> {
        let mut table = self.workshop.table();
        match table.get(&plan.name).filter(|vm| !vm.state().is_end()) {
            Some(vm) if is_outdated(&vm.plan, plan) => {
                vm.ask_to_stop();
                Ok(Err(Arc::clone(vm)))
            }
            Some(vm) => match Launch::join(vm) {
                Some(launch) => {
                    vm.bring(&plan.secrets);
                    Ok(Ok(launch))
                }
                None => Ok(Err(Arc::clone(vm))),
            },
            None => {
                self.workshop.admit(plan)?;
                Ok(Ok(self.begin(&mut table, plan.clone())))
            }
        }
    }

    fn begin(&self, table: &mut Table<G::Conversation>, plan: Plan) -> Launch<G::Conversation> {
        let name = plan.name.clone();
        let spare = self.workshop.spares.take(&self.workshop, &plan);
        let id = spare.as_ref().map_or_else(VmId::random, |spare| spare.id.clone());
        let vm = Arc::new(Vm::new(id, plan, SystemTime::now(), State::Preparing));
        let launch = Launch::join(&vm).expect("nobody has heard of it yet who could stop it");
        table.insert(name, Arc::clone(&vm));
        tokio::spawn(Life::lead(Arc::clone(&self.workshop), vm, spare));
        launch
    }
}

/// When it is due next; nothing where it may be as it is for ever.
fn settle<C: Send + Sync + 'static>(vm: &Arc<Vm<C>>, limits: &Idle) -> Option<Duration> {
    if vm.plan.started_by != StartedBy::Auto {
        return None;
    }
    let (stop, suspend) = match vm.state() {
        State::Ready => (limits.stop, limits.suspend.filter(|_| vm.may_be_suspended())),
        State::Suspended => (limits.stop_suspended, None),
        _ => return None,
    };
    let left = |limit: Option<Duration>, idle: Option<Duration>| {
        limit.zip(idle).map(|(limit, idle)| limit.saturating_sub(idle))
    };
    let stop = left(stop, vm.activity.idle(vm.launched));
    let suspend = left(suspend, vm.activity.still(vm.launched));
    if stop == Some(Duration::ZERO) {
        tracing::info!(vm = %vm.id, name = %vm.plan.name, "idle");
        vm.ask_to_stop();
        return None;
    }
    if suspend == Some(Duration::ZERO) {
        let vm = Arc::clone(vm);
        tokio::spawn(async move {
            if let Err(cause) = vm.suspend().await {
                tracing::info!(vm = %vm.id, %cause, "not suspended");
            }
        });
        return stop;
    }
    stop.into_iter().chain(suspend).min()
}

/// Whether a VM that osvm has started by itself may reach other things than it would now: what was taken back in the
/// configuration is not to be had for longer.
fn is_outdated(old: &Plan, new: &Plan) -> bool {
    let both_auto = [old, new].iter().all(|plan| plan.started_by == StartedBy::Auto);
    both_auto && (old.hosts != new.hosts || old.folders != new.folders)
}

impl<G: Greeter> Workshop<G> {
    pub(crate) fn all(&self) -> Vec<Arc<Vm<G::Conversation>>> {
        self.table().values().cloned().collect()
    }

    /// Puts an adopted VM on the table.
    pub(crate) fn welcome(&self, vm: &Arc<Vm<G::Conversation>>) {
        self.table().insert(vm.plan.name.clone(), Arc::clone(vm));
    }

    /// The last step of a life. A VM that was stopped leaves the table; one that failed stays, for
    /// its cause to be seen.
    pub(crate) fn part(&self, vm: &Arc<Vm<G::Conversation>>, end: State) {
        if end == State::Stopped {
            self.forget(vm);
        }
        vm.enter(end);
    }

    fn forget(&self, vm: &Arc<Vm<G::Conversation>>) {
        let mut table = self.table();
        if table.get(&vm.plan.name).is_some_and(|other| Arc::ptr_eq(other, vm)) {
            table.remove(&vm.plan.name);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table<G::Conversation>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> Launch<C> {
    /// Nothing if the VM is leaving.
    fn join(vm: &Arc<Vm<C>>) -> Option<Self> {
        vm.join().then(|| Self { vm: Arc::clone(vm) })
    }

    pub fn vm(&self) -> &Arc<Vm<C>> {
        &self.vm
    }

    pub async fn ready(self) -> Result<Arc<Vm<C>>, Cause> {
        self.vm.ready().await?;
        Ok(Arc::clone(&self.vm))
    }
}

impl<C> Drop for Launch<C> {
    fn drop(&mut self) {
        self.vm.part();
    }
}

fn already<C>(vm: &Vm<C>) -> Cause {
    let (name, id) = (&vm.plan.name, &vm.id);
    let state = if vm.is_leaving() { State::Stopping } else { vm.state() };
    let message = format!("server {name} already has VM {id}, which is {state}");
    Cause::new(CauseKind::Conflict, message).hint(format!("osvm mcp microvm stop {name}"))
}
