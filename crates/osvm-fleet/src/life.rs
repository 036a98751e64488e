//! The one task that leads a VM through its life: up, on duty, down. It owns every step between
//! states; others ask through [`Vm`] and wait.

mod boot;
mod clone;
mod rehearse;
mod sleep;

pub(crate) use boot::machine;

use std::sync::Arc;
use std::time::{Duration, Instant};

use osvm_spec::Hosts;
use osvm_vmm::{Exit, Link, Process, Running};
use tokio::time::timeout;

use crate::admission::{Origin, Place};
use crate::breaks::Breaks;
use crate::diary::Diary;
use crate::drivers::chain;
use crate::fleet::Workshop;
use crate::folders;
use crate::greeter::Greeter;
use crate::logs::Kept;
use crate::plan::Purpose;
use crate::prepare::Prepared;
use crate::reach::{self, Outside, Ways};
use crate::record::{ReadyRecord, Record, Rest};
use crate::rundir::RunDir;
use crate::spares::Spare;
use crate::state::{Cause, CauseKind, State};
use crate::templates::Key;
use crate::vm::{LeftTalk, Vm};

/// Longest wait for the guest to power off by itself.
const POWER_OFF: Duration = Duration::from_secs(5);
/// Longest wait for a VMM to follow SIGTERM.
const TERMINATE: Duration = Duration::from_secs(2);
/// Longest wait for a lost link to come back.
const RECONNECT: Duration = Duration::from_secs(10);

/// How long a guest may take to notice that nobody is connected any more.
const HANGS_UP: Duration = Duration::from_millis(100);

/// How long after its link a dying VMM may linger.
const DEATH: Duration = Duration::from_secs(1);

/// One VM's life.
pub(crate) struct Life<G: Greeter> {
    workshop: Arc<Workshop<G>>,
    vm: Arc<Vm<G::Conversation>>,
    dir: RunDir,
    diary: Diary,
}

/// Why a life turns to its end.
enum Turn {
    Stop,
    Failure(Cause),
}

impl<G: Greeter> Life<G> {
    /// Leads a new VM from `Preparing` to its end. `spare` is of its id.
    pub(crate) async fn lead(
        workshop: Arc<Workshop<G>>,
        vm: Arc<Vm<G::Conversation>>,
        spare: Option<Spare>,
    ) {
        let (dir, restored) = match spare {
            Some(Spare { dir, machine, key, memory, .. }) => {
                vm.set_machine(machine);
                (Ok(dir), Some((key, memory)))
            }
            None => (RunDir::make(&workshop.settings.runtime_dir, &vm.id), None),
        };
        match dir {
            Ok(dir) => {
                let life = Self::new(workshop, vm, dir);
                let turn = match life.rise(restored).await {
                    Ok(link) => life.serve(link).await,
                    Err(turn) => turn,
                };
                life.end(turn).await;
            }
            Err(error) => {
                let cause = machine_cause(&error).hint("set OSVM_RUNTIME_DIR");
                workshop.part(&vm, State::Failed(cause));
            }
        }
    }

    /// Leads an adopted VM, whose machine and link are there, from `Ready` to its end.
    pub(crate) async fn go_on(
        workshop: Arc<Workshop<G>>,
        vm: Arc<Vm<G::Conversation>>,
        dir: RunDir,
        link: Link,
    ) {
        let life = Self::new(workshop, vm, dir);
        life.diary.note("adopted by a new daemon");
        let turn = match life.open_ways(&link) {
            Ok(()) => life.serve(link).await,
            Err(cause) => cause.into(),
        };
        life.end(turn).await;
    }

    /// Leads an adopted VM that is suspended to its end; or one that was about to be, which has a machine.
    pub(crate) async fn sleep_on(
        workshop: Arc<Workshop<G>>,
        vm: Arc<Vm<G::Conversation>>,
        dir: RunDir,
        ready: ReadyRecord,
    ) {
        let life = Self::new(workshop, vm, dir);
        life.diary.note("adopted by a new daemon, suspended");
        let slept = async {
            if let Some(machine) = life.vm.machine() {
                life.lies_down(&machine, &ready).await?;
            }
            life.sleep(&ready).await
        };
        let turn = match slept.await {
            Ok(link) => life.serve(link).await,
            Err(turn) => turn,
        };
        life.end(turn).await;
    }

    fn new(workshop: Arc<Workshop<G>>, vm: Arc<Vm<G::Conversation>>, dir: RunDir) -> Self {
        let diary = Diary::open(&dir);
        vm.set_diary(diary.clone());
        Self { workshop, vm, dir, diary }
    }

    /// From `Preparing` to `Ready`; with the machine that is there, if it was restored from the template of that key, and
    /// takes so much memory.
    async fn rise(&self, restored: Option<(Key, u64)>) -> Result<Link, Turn> {
        self.save().await?;
        let (restored_from, taken) = restored.unzip();
        let origin = taken.map_or(Origin::New, Origin::Spare);
        let place = self.unless_stopped(self.place(|| origin)).await??;
        let prepared = self.unless_stopped(self.prepare()).await??;
        self.vm.set_timings(|t| t.prepared = Some(self.vm.launched.elapsed()));
        let deadline = Instant::now() + self.vm.plan.start_timeout;
        let (machine, link) = self.boot(&prepared, restored_from).await?;
        let left = match self.vm.facts().is_some_and(|facts| facts.cloned) {
            // What its template has taken to make is not the server's.
            true => self.vm.plan.start_timeout,
            false => deadline.saturating_duration_since(Instant::now()),
        };
        self.vm.mark_secret();
        self.while_alive(&machine, self.meet(left)).await?;
        self.vm.set_timings(|t| t.ready = Some(self.vm.launched.elapsed()));
        self.save().await?;
        self.enter(State::Ready);
        self.workshop.spares.served(&self.workshop, &self.vm.plan);
        place.ready(self.vm.pid(), self.vm.template()).await;
        Ok(link)
    }

    /// A place among the VMs that start. Where memory is short, what nothing needs now is given back first.
    async fn place(&self, origin: impl Fn() -> Origin) -> Result<Place<'_>, Cause> {
        let (workshop, plan) = (&self.workshop, &self.vm.plan);
        loop {
            match workshop.admission.enter(plan, origin()).await {
                Err(_) if workshop.relieve(plan).await => {}
                entered => return entered,
            }
        }
    }

    async fn prepare(&self) -> Result<Prepared, Turn> {
        let (workshop, plan) = (Arc::clone(&self.workshop), self.vm.plan.clone());
        let work = tokio::task::spawn_blocking(move || {
            // Before there is an image to build, which may take long.
            folders::may_all_be_lent(&plan.folders, workshop.settings.own())?;
            let prepared = workshop.preparer.prepare(&plan)?;
            workshop.greeter.admit(&plan, &prepared.image)?;
            Ok::<_, Cause>(prepared)
        });
        Ok(work.await.map_err(|error| bug(&error))??)
    }

    /// Takes the streams that the guest opens on this link.
    fn open_ways(&self, link: &Link) -> Result<(), Cause> {
        let plan = &self.vm.plan;
        if reach::ports(plan).is_empty() {
            return Ok(());
        }
        let hosts = match plan.has_hosts_stream() {
            true => Some(self.outside(plan.hosts.clone())?),
            false => None,
        };
        let (dir, activity) = (self.dir.path().to_owned(), self.vm.activity.clone());
        let ways = Ways { dir, hosts, activity };
        tokio::spawn(reach::serve(link.clone(), ways));
        Ok(())
    }

    fn outside(&self, rules: Hosts) -> Result<Outside, Cause> {
        let Some(relay) = self.workshop.settings.relay.clone() else {
            return Err(Cause::new(CauseKind::Machine, "nothing here can connect to hosts"));
        };
        let log = self.dir.egress_log();
        Outside::new(relay, rules, &log).map_err(|error| {
            let message = format!("failed to open {}: {error}", log.display());
            Cause::new(CauseKind::Machine, message)
        })
    }

    /// The server's, in the guest.
    fn user(&self) -> Option<String> {
        self.vm.facts().and_then(|facts| facts.user)
    }

    /// Has the server answer MCP, if there is to be one.
    async fn meet(&self, limit: Duration) -> Result<(), Cause> {
        if self.vm.plan.purpose == Purpose::Work {
            return Ok(());
        }
        self.vm.converse(&self.workshop.greeter, limit).await.map(drop)
    }

    /// On duty until something ends it. A lost link is made anew; sessions outlive it.
    async fn serve(&self, mut link: Link) -> Turn {
        let folders = self.vm.folders();
        let mut breaks = Breaks::default();
        loop {
            let (Some(machine), Some(agent)) = (self.vm.machine(), self.vm.agent()) else {
                return Turn::Stop;
            };
            tokio::select! {
                () = self.vm.asked_to_stop() => return Turn::Stop,
                exit = machine.exited() => return Turn::Failure(vmm_ended(&exit)),
                why = agent.distrusted() => return Turn::Failure(usurped(&why)),
                lost = folders::lost(&folders) => return self.deeper(&machine, self.unlent(lost)).await,
                () = self.vm.asked_to_rest() => match self.rest(&machine, link).await {
                    Ok(new) => {
                        link = new;
                        continue;
                    }
                    Err(turn) => return turn,
                },
                () = link.closed() => {}
            }
            if breaks.are_too_many(Instant::now()) {
                return self.deeper(&machine, link_broken_often()).await;
            }
            self.diary.note("link to the agent lost, connecting again");
            match self.while_alive(&machine, self.reconnect(&machine)).await {
                Ok(new) => link = new,
                Err(Turn::Stop) => return Turn::Stop,
                Err(Turn::Failure(cause)) => return self.deeper(&machine, cause).await,
            }
        }
    }

    /// A VMM that dies takes its link along, and that may be noticed first.
    async fn deeper(&self, machine: &Arc<dyn Running>, cause: Cause) -> Turn {
        match timeout(DEATH, machine.exited()).await {
            Ok(exit) => Turn::Failure(vmm_ended(&exit)),
            Err(_) => Turn::Failure(cause),
        }
    }

    fn unlent(&self, number: usize) -> Cause {
        let folder = self.vm.plan.folders.get(number);
        let shown = folder.map_or_else(String::new, |folder| folder.host.display().to_string());
        Cause::new(CauseKind::Machine, format!("the server of the lent folder {shown} ended"))
    }

    async fn reconnect(&self, machine: &Arc<dyn Running>) -> Result<Link, Cause> {
        let link = machine.connect(RECONNECT).await.map_err(|error| {
            let why = chain(&error);
            Cause::new(
                CauseKind::Machine,
                format!("guest agent was lost and did not come back: {why}"),
            )
        })?;
        self.open_ways(&link)?;
        if let Some(agent) = self.vm.agent() {
            agent.relink(link.clone());
        }
        Ok(link)
    }

    /// Leaves nothing behind but logs.
    async fn end(self, turn: Turn) {
        let end = match turn {
            Turn::Stop => {
                self.diary.note("stopping");
                self.enter(State::Stopping);
                State::Stopped
            }
            Turn::Failure(cause) => {
                self.diary.note(&format!("failed: {cause}"));
                State::Failed(cause)
            }
        };
        if let Some(machine) = self.vm.machine() {
            self.take_down(&machine, end == State::Stopped && !self.leaves_nothing()).await;
            folders::gone(&self.vm.folders()).await;
        }
        if let Some(agent) = self.vm.agent() {
            // Whoever still waits for a session's bytes learns that there will be none.
            agent.give_up();
        }
        self.bed().leave();
        self.diary.note("ended");
        let kept = Kept::new(&self.workshop.settings.logs_dir, self.vm.plan.server());
        if let Err(error) = self.dir.remove(&kept.of(self.vm.id.as_str())) {
            tracing::warn!(vm = %self.vm.id, error = chain(&error), "clean-up");
        }
        kept.prune();
        self.workshop.part(&self.vm, end);
    }

    /// Whether nothing that its guest still has to do is of use to anybody.
    fn leaves_nothing(&self) -> bool {
        self.vm.plan.once && self.vm.plan.folders.is_empty()
    }

    /// By the agent, then SIGTERM, then SIGKILL, each with a deadline.
    async fn take_down(&self, machine: &Arc<dyn Running>, gently: bool) {
        self.vm.hush();
        if gently && let Some(agent) = self.vm.agent().filter(|agent| !agent.is_asleep()) {
            let power_off = async {
                let _ = agent.power_off().await;
                machine.exited().await
            };
            if timeout(POWER_OFF, power_off).await.is_ok() {
                return;
            }
            self.diary.note("guest did not power off in time: SIGTERM");
            let _ = machine.terminate();
            if timeout(TERMINATE, machine.exited()).await.is_ok() {
                return;
            }
            self.diary.note("VMM did not follow SIGTERM: SIGKILL");
        }
        machine.end().await;
    }

    fn enter(&self, state: State) {
        self.vm.enter(state);
    }

    /// Writes down what a later daemon must know.
    async fn save(&self) -> Result<(), Turn> {
        let ready = self.ready_record().await;
        self.note_down(ready.as_ref(), None)
    }

    async fn ready_record(&self) -> Option<ReadyRecord> {
        let talk = self.vm.talk_note(&self.workshop.greeter).await;
        talk.zip(self.vm.facts()).map(|(LeftTalk { session, note }, facts)| ReadyRecord {
            facts,
            timings: self.vm.timings(),
            template: self.vm.template(),
            session: session.0,
            note,
        })
    }

    fn note_down(&self, ready: Option<&ReadyRecord>, rest: Option<Rest>) -> Result<(), Turn> {
        let machine = self.vm.machine().filter(|_| rest != Some(Rest::Done));
        let record = Record {
            home: self.workshop.settings.home.clone(),
            id: self.vm.id.clone(),
            plan: self.vm.plan.clone(),
            created: self.vm.created,
            machine: machine.map(|machine| machine.saved()),
            folders: self.vm.folders().iter().map(Process::identity).collect(),
            ready: ready.cloned(),
            rest,
        };
        let saved = record.save(&self.dir.record());
        saved.map_err(|error| machine_cause(&error).hint("set OSVM_RUNTIME_DIR").into())
    }

    /// `step`, unless the VM is asked to stop first.
    async fn unless_stopped<T>(&self, step: impl Future<Output = T>) -> Result<T, Turn> {
        tokio::select! {
            () = self.vm.asked_to_stop() => Err(Turn::Stop),
            done = step => Ok(done),
        }
    }

    /// `step`, unless the VM is asked to stop or its VMM ends first.
    async fn while_alive<T>(
        &self,
        machine: &Arc<dyn Running>,
        step: impl Future<Output = Result<T, Cause>>,
    ) -> Result<T, Turn> {
        tokio::select! {
            exit = machine.exited() => Err(Turn::Failure(vmm_ended(&exit))),
            done = self.unless_stopped(step) => Ok(done??),
        }
    }
}

impl From<Cause> for Turn {
    fn from(cause: Cause) -> Self {
        Self::Failure(cause)
    }
}

pub(crate) fn machine_cause(error: &dyn std::error::Error) -> Cause {
    Cause::new(CauseKind::Machine, format!("failed to {}", chain(error)))
}

fn vmm_ended(exit: &Exit) -> Cause {
    Cause::new(CauseKind::Machine, format!("the VMM ended by itself: {exit}"))
}

fn usurped(why: &str) -> Cause {
    let message =
        format!("the guest's agent broke its protocol, so somebody has taken its place: {why}");
    Cause::new(CauseKind::Machine, message)
}

fn link_broken_often() -> Cause {
    let (most, within) = (Breaks::MOST, Breaks::WITHIN.as_secs());
    let message =
        format!("the guest broke its link to the host more than {most} times within {within} s");
    Cause::new(CauseKind::Machine, message)
}

fn sleeps() -> Cause {
    Cause::new(CauseKind::Machine, "the guest sleeps instead of answering")
}

fn bug(error: &tokio::task::JoinError) -> Cause {
    Cause::new(CauseKind::Machine, format!("osvm made a mistake while preparing: {error}"))
}
