//! How a VM sleeps: from `Ready` through `Suspended` to `Ready`.
//!
//! ```text
//! asked to rest ── agent and link sleep ── machine suspended to disk ── ended        Suspended
//!                                                                         │
//!               link, sessions attach again <── resumed <── woken <── somebody wants the agent
//! ```
//!
//! Nobody has to know. Whoever wants something of the guest waits for its link, and by that wakes it; sessions that have
//! nothing to say sleep along. Until the new link is there nobody can tell what the guest has done since it was woken, so
//! a machine that can't be woken is still on disk as it was, and is tried again when it is wanted again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use osvm_vmm::{Driver, Link, Machine, Running};
use tokio::time::{sleep, timeout};

use super::{HANGS_UP, Life, Turn, machine, machine_cause, sleeps};
use crate::admission::Origin;
use crate::adopt::close_others;
use crate::agent::Agent;
use crate::bed::Bed;
use crate::drivers::vmm_cause;
use crate::greeter::Greeter;
use crate::record::{ReadyRecord, Rest};
use crate::remove::remove;
use crate::state::{Cause, CauseKind, State};
use crate::vm::agent_cause;

/// How often in a row a machine may fail to be woken, before its VM has failed.
const MOST_FAILURES: u32 = 3;

/// How long those are not heard that want a guest which could not be woken.
const DEAF: Duration = Duration::from_secs(1);

/// Why a machine was not woken.
enum Unwoken {
    /// The host has no memory for it now, or no disk.
    NoRoom(Cause),
    /// It may be another time.
    Now(Cause),
    /// It never will be, or nobody wants it any more.
    Ever(Turn),
}

impl<G: Greeter> Life<G> {
    /// Suspends the VM, and returns when it is awake again; or at once, where it has to stay awake.
    pub(super) async fn rest(&self, machine: &Arc<dyn Running>, link: Link) -> Result<Link, Turn> {
        let ready = match self.may_rest().await {
            Ok(ready) => ready,
            Err(why) => {
                self.vm.rests(&Err(why));
                return Ok(link);
            }
        };
        self.agent().sleep();
        link.hang_up();
        drop(link);
        match self.suspend(machine, &ready).await {
            Ok(()) => {
                self.vm.rests(&Ok(()));
                self.sleep(&ready).await
            }
            Err(Turn::Stop) => Err(Turn::Stop),
            Err(Turn::Failure(cause)) => {
                self.diary.note(&format!("not suspended: {cause}"));
                self.vm.rests(&Err(cause));
                self.bed().leave();
                // It may not be paused, or have ended, which is seen next.
                let _ = machine.resume().await;
                let link = self.while_alive(machine, self.reconnect(machine)).await?;
                self.note_down(Some(&ready), None)?;
                Ok(link)
            }
        }
    }

    /// What a later daemon must know of the VM, if it may be suspended.
    async fn may_rest(&self) -> Result<ReadyRecord, Cause> {
        let in_use = || {
            let message =
                format!("VM of server {} can't be suspended: it is in use", self.vm.plan.name);
            Cause::new(CauseKind::Conflict, message)
        };
        // A secret may have been brought since it was asked.
        if self.vm.activity.works() || !self.vm.may_be_suspended() {
            return Err(in_use());
        }
        // While a conversation is begun, the VM is in use.
        let ready = timeout(HANGS_UP, self.ready_record()).await.ok().flatten();
        ready.ok_or_else(in_use)
    }

    async fn suspend(&self, machine: &Arc<dyn Running>, ready: &ReadyRecord) -> Result<(), Turn> {
        self.note_down(Some(ready), Some(Rest::Begun))?;
        self.bed().make(self.vm.plan.resources.memory_bytes())?;
        let agent = self.agent();
        // Whether the guest has noticed the hang-up nobody tells.
        let wanted = async {
            agent.wanted().await;
            Err::<(), _>(Cause::new(CauseKind::Conflict, "it was used again meanwhile"))
        };
        if let Ok(wanted) = timeout(HANGS_UP, self.while_alive(machine, wanted)).await {
            return wanted;
        }
        self.lay_down(machine, ready).await?;
        self.enter(State::Suspended);
        Ok(())
    }

    /// Writes the machine to its bed, and ends it.
    async fn lay_down(&self, machine: &Arc<dyn Running>, ready: &ReadyRecord) -> Result<(), Turn> {
        let suspended = async {
            let (bed, from) = (self.bed(), self.cloned_from().await);
            let done = machine.suspend(bed.path(), from.as_deref()).await;
            done.map_err(|error| vmm_cause(&error))
        };
        self.while_alive(machine, suspended).await?;
        // From here on it is what is on disk.
        self.note_down(Some(ready), Some(Rest::Done))?;
        machine.end().await;
        self.vm.clear_machine();
        self.dir.empty().map_err(|error| Turn::from(machine_cause(&error)))?;
        if let Some(key) = self.vm.template() {
            // What QEMU has read of it to write the machine is taken for as long as it is open.
            self.workshop.close_template(&key);
        }
        self.diary.note("suspended");
        Ok(())
    }

    /// Has done what an earlier daemon has begun, of a machine that is of no other use.
    pub(super) async fn lies_down(
        &self,
        machine: &Arc<dyn Running>,
        ready: &ReadyRecord,
    ) -> Result<(), Turn> {
        self.bed().make(self.vm.plan.resources.memory_bytes())?;
        self.lay_down(machine, ready).await
    }

    /// Where the template is that it was restored from, for as long as the VM's own part is on disk. One that somebody
    /// makes or opens right now is not waited for.
    async fn cloned_from(&self) -> Option<PathBuf> {
        let folder = self.bed().template();
        if self.workshop.templates.lend(self.vm.template()?, folder.clone()).await {
            return Some(folder);
        }
        // Maybe in part.
        let _ = remove(&folder);
        None
    }

    async fn woken(
        &self,
        driver: &dyn Driver,
        asked: &Machine,
    ) -> Result<Box<dyn Running>, Unwoken> {
        let bed = self.bed();
        let from = self.vm.template().filter(|_| bed.template().exists());
        let woken = match from {
            Some(key) => {
                let template = self.workshop.templates.lent(key, bed.template(), driver).await;
                template.map_err(Unwoken::Now)?.wake(asked, bed.path()).await
            }
            None => driver.wake(asked, bed.path()).await,
        };
        woken.map_err(|error| match vmm_cause(&error) {
            cause if error.is_for_disk() => Unwoken::NoRoom(cause),
            cause => Unwoken::Now(cause),
        })
    }

    /// Until the VM is awake again.
    pub(super) async fn sleep(&self, ready: &ReadyRecord) -> Result<Link, Turn> {
        let agent = self.agent();
        let mut failures = 0;
        loop {
            self.unless_stopped(agent.wanted()).await?;
            self.diary.note("wanted: waking");
            let cause = match self.wake_up(ready).await {
                Ok(link) => return Ok(link),
                Err(Unwoken::Ever(turn)) => return Err(turn),
                Err(Unwoken::NoRoom(cause)) => cause,
                Err(Unwoken::Now(cause)) => {
                    failures += 1;
                    cause
                }
            };
            self.diary.note(&format!("not woken: {cause}"));
            if failures >= MOST_FAILURES {
                return Err(cause.into());
            }
            if let Some(machine) = self.vm.machine() {
                machine.end().await;
                self.vm.clear_machine();
            }
            self.dir.empty().map_err(|error| Turn::from(machine_cause(&error)))?;
            agent.put_off(&cause.message);
            self.unless_stopped(sleep(DEAF)).await?;
        }
    }

    async fn wake_up(&self, ready: &ReadyRecord) -> Result<Link, Unwoken> {
        let place = self.place(|| Origin::Disk(self.on_disk()));
        let _place = self.unless_stopped(place).await?.map_err(Unwoken::NoRoom)?;
        let prepared = self.unless_stopped(self.prepare()).await??;
        let driver = self.workshop.drivers.get(self.vm.plan.hypervisor).await?;
        let vmm = format!("{} {}", driver.name(), driver.version());
        let is_same = (&vmm, &prepared.image.digest) == (&ready.facts.vmm, &ready.facts.image);
        if !is_same {
            let message = format!(
                "a VM that was suspended under {} with image {} can't go on under {vmm} with image {}",
                ready.facts.vmm, ready.facts.image, prepared.image.digest
            );
            return Err(Unwoken::Ever(Cause::new(CauseKind::Machine, message).into()));
        }
        let asked = machine(&self.vm.plan, &self.vm.id, &self.dir, &prepared);
        let woken = self.woken(&*driver, &asked).await?;
        let machine = self.has_begun(&*driver, woken);
        let link = match self.greet_again(&machine).await {
            Ok(link) => link,
            Err(Turn::Failure(cause)) => return Err(Unwoken::Now(cause)),
            Err(Turn::Stop) => return Err(Unwoken::Ever(Turn::Stop)),
        };
        // From here on it is what the machine has.
        self.note_down(Some(ready), Some(Rest::Begun))?;
        self.open_ways(&link)?;
        let agent = self.agent();
        agent.relink(link.clone());
        self.vm.keep_alone(None);
        self.bed().leave();
        self.note_down(Some(ready), None)?;
        self.diary.note("awake");
        self.enter(State::Ready);
        tokio::spawn(async move { agent.close_left().await });
        Ok(link)
    }

    /// What comes into memory when it is woken, in bytes: also what its template has, where that is not there already.
    fn on_disk(&self) -> u64 {
        let bed = self.bed();
        let is_there = |key| self.workshop.templates.is_open(&key);
        match self.vm.template().is_some_and(is_there) {
            true => bed.bytes(),
            false => bed.bytes() + bed.template_bytes(),
        }
    }

    /// Has the machine go on, and its agent know what time it is.
    async fn greet_again(&self, machine: &Arc<dyn Running>) -> Result<Link, Turn> {
        machine.resume().await.map_err(|error| vmm_cause(&error))?;
        let greeted = async {
            let connected = machine.connect(self.vm.plan.start_timeout).await;
            let link = connected.map_err(|error| self.deaf(&error))?;
            let agent = Agent::new(link.clone());
            agent.go_on(self.identity()).await.map_err(|error| agent_cause(&error))?;
            if let Some(keep) = self.vm.kept_alone() {
                close_others(&agent, keep).await;
            }
            Ok(link)
        };
        Ok(self.unless_asleep(machine, greeted).await?.ok_or_else(sleeps)?)
    }

    pub(super) fn bed(&self) -> Bed {
        Bed::of(&self.workshop.settings.home, &self.vm.id)
    }

    /// Of a VM that has been ready.
    fn agent(&self) -> Agent {
        self.vm.agent().expect("it was ready, so it has one")
    }
}

impl From<Turn> for Unwoken {
    fn from(turn: Turn) -> Self {
        Self::Ever(turn)
    }
}

impl From<Cause> for Unwoken {
    fn from(cause: Cause) -> Self {
        Self::Ever(cause.into())
    }
}
