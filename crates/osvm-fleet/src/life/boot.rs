//! How a VM's machine comes to run, as far as its agent's answer and what the guest may reach.

use std::sync::Arc;
use std::time::SystemTime;

use osvm_vmm::{Driver, Link, LinkError, Machine, Running};
use osvm_wire::message::{Prepare, SessionId, Spawn};

use super::{Life, Turn, machine_cause};
use crate::agent::Agent;
use crate::asleep::asleep;
use crate::drivers::{chain, vmm_cause};
use crate::folders::Lender;
use crate::greeter::Greeter;
use crate::id::{VmId, random};
use crate::plan::Plan;
use crate::prepare::Prepared;
use crate::reach;
use crate::rundir::RunDir;
use crate::state::{Cause, CauseKind, State};
use crate::templates::Key;
use crate::vm::{Facts, Vm, agent_cause};

impl<G: Greeter> Life<G> {
    /// A machine whose agent has answered. A guest that falls asleep on the way is started once more.
    pub(super) async fn boot(
        &self,
        prepared: &Prepared,
        restored_from: Option<Key>,
    ) -> Result<(Arc<dyn Running>, Link), Turn> {
        let driver = self.workshop.drivers.get(self.vm.plan.hypervisor).await?;
        self.vm.set_facts(facts(&self.vm, prepared, &self.dir, &*driver));
        let asked = machine(&self.vm.plan, &self.vm.id, &self.dir, prepared);
        let clone = self.as_clone(prepared, (&*driver, &asked), restored_from).await?;
        let (machine, link) = match clone {
            Some(clone) => clone,
            None => self.cold((&*driver, &asked)).await?,
        };
        self.while_alive(&machine, self.equip(&link)).await?;
        Ok((machine, link))
    }

    async fn cold(&self, asked: (&dyn Driver, &Machine)) -> Result<(Arc<dyn Running>, Link), Turn> {
        let machine = self.start(asked).await?;
        if let Some(link) = self.unless_asleep(&machine, self.wake(&machine)).await? {
            return Ok((machine, link));
        }
        self.diary.note("the guest sleeps instead of booting: starting it once more");
        self.clear().await?;
        let machine = self.start(asked).await?;
        let link = self.while_alive(&machine, self.wake(&machine)).await?;
        Ok((machine, link))
    }

    /// What `step` comes to, before which the guest must not have ended; nothing where it sleeps instead.
    pub(super) async fn unless_asleep<T>(
        &self,
        machine: &Arc<dyn Running>,
        step: impl Future<Output = Result<T, Cause>>,
    ) -> Result<Option<T>, Turn> {
        tokio::select! {
            done = self.while_alive(machine, step) => done.map(Some),
            () = asleep(machine.process(), self.workshop.settings.asleep_after) => Ok(None),
        }
    }

    /// Leaves nothing of a machine in the place of the next one.
    pub(super) async fn clear(&self) -> Result<(), Cause> {
        if let Some(machine) = self.vm.machine() {
            machine.end().await;
        }
        self.dir.empty().map_err(|error| machine_cause(&error))
    }

    /// Not given up halfway: a VMM half started would be nobody's.
    async fn start(
        &self,
        (driver, asked): (&dyn Driver, &Machine),
    ) -> Result<Arc<dyn Running>, Turn> {
        let started = driver.start(asked).await.map_err(|error| vmm_cause(&error))?;
        let machine = self.has_begun(driver, started);
        self.lend(&machine).await?;
        self.is_booting().await?;
        Ok(machine)
    }

    pub(super) fn has_begun(
        &self,
        driver: &dyn Driver,
        machine: Box<dyn Running>,
    ) -> Arc<dyn Running> {
        let machine: Arc<dyn Running> = machine.into();
        self.vm.set_machine(Arc::clone(&machine));
        let pid = machine.process().identity().pid;
        self.diary.note(&format!("{} started, pid {pid}", driver.name()));
        machine
    }

    pub(super) async fn is_booting(&self) -> Result<(), Turn> {
        if self.vm.state() == State::Preparing {
            self.enter(State::Booting);
        }
        self.save().await
    }

    /// Starts the servers of the folders that the guest is lent.
    pub(super) async fn lend(&self, machine: &Arc<dyn Running>) -> Result<(), Cause> {
        let folders = &self.vm.plan.folders;
        if folders.is_empty() {
            return Ok(());
        }
        let Some(jail) = self.workshop.drivers.jail() else {
            return Err(Cause::new(CauseKind::Machine, "nothing here can serve a folder"));
        };
        let own = self.workshop.settings.own();
        let (id, dir) = (&self.vm.id, &self.dir);
        let lender = Lender { jail, id, dir, own, vmm: machine.process() };
        self.vm.set_folders(lender.lend(folders).await?);
        Ok(())
    }

    /// Connects to the agent and tells it time, name and randomness.
    pub(super) async fn wake(&self, machine: &Arc<dyn Running>) -> Result<Link, Cause> {
        let connected = machine.connect(self.vm.plan.start_timeout).await;
        let link = connected.map_err(|error| self.deaf(&error))?;
        let agent = Agent::new(link.clone());
        agent.prepare(self.identity()).await.map_err(|error| agent_cause(&error))?;
        Ok(link)
    }

    /// Gives the guest what it may reach.
    pub(super) async fn equip(&self, link: &Link) -> Result<(), Cause> {
        let agent = Agent::new(link.clone());
        self.open_ways(link)?;
        if let Some(grants) = reach::grants(&self.vm.plan, self.user().as_ref()) {
            agent
                .grant(grants, reach::files(&self.vm.plan))
                .await
                .map_err(|error| agent_cause(&error))?;
        }
        self.vm.set_agent(agent);
        self.vm.set_timings(|t| t.agent = Some(self.vm.launched.elapsed()));
        Ok(())
    }

    pub(super) fn deaf(&self, error: &LinkError) -> Cause {
        let kind = match error {
            LinkError::Silent { .. } => CauseKind::Deadline,
            _ => CauseKind::Machine,
        };
        let name = &self.vm.plan.name;
        Cause::new(kind, format!("failed to {}", chain(error)))
            .hint(format!("osvm mcp microvm logs {name} --source console"))
    }

    pub(super) fn identity(&self) -> Prepare {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Prepare {
            unix_nanos: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
            entropy: random::<64>().to_vec(),
            hostname: self.vm.plan.name.to_string(),
        }
    }
}

/// What is asked of a driver.
pub(crate) fn machine(plan: &Plan, id: &VmId, dir: &RunDir, prepared: &Prepared) -> Machine {
    Machine {
        id: id.to_string(),
        dir: dir.path().to_owned(),
        logs: dir.logs(),
        kernel: prepared.kernel.clone(),
        initramfs: prepared.initramfs.clone(),
        disk: prepared.disk.clone(),
        resources: plan.resources,
        cpu_template: plan.cpu_template,
        guest_ports: reach::ports(plan),
    }
}

pub(super) fn facts<C>(
    vm: &Vm<C>,
    prepared: &Prepared,
    dir: &RunDir,
    driver: &dyn Driver,
) -> Facts {
    let Spawn { argv, env, user, cwd, .. } =
        vm.plan.server_in(&prepared.image, SessionId::default());
    Facts {
        vmm: format!("{} {}", driver.name(), driver.version()),
        accelerator: driver.accelerator().to_owned(),
        cloned: false,
        image: prepared.image.digest.clone(),
        command: argv,
        env,
        user,
        working_dir: cwd,
        run_dir: dir.path().to_owned(),
    }
}
