//! How a template is made in whose machine the server has run for once: what it read of its image is in the memory of
//! all clones then, once for all of them. Nothing else of it stays: its process is gone, what it wrote went with that,
//! and of its environment it was given the image's part alone.

use std::sync::Arc;

use osvm_vmm::{Link, Running};
use osvm_wire::message::Spawn;
use tokio::time::timeout;

use super::boot::facts;
use super::clone::settles;
use super::{Life, Turn, machine, machine_cause};
use crate::admission::Origin;
use crate::agent::{Agent, AgentError};
use crate::fleet::Workshop;
use crate::greeter::{Greeter, Greeting, Meeting, Pipes};
use crate::plan::Plan;
use crate::rehearsals::booting;
use crate::rundir::RunDir;
use crate::state::{Cause, CauseKind};
use crate::templates::{Beginning, Content};
use crate::vm::{Vm, agent_cause};

impl<G: Greeter> Life<G> {
    /// Leads a VM that is nobody's to its end. An error is no fault of anybody's: VMs begin as they have begun before.
    pub(crate) async fn rehearse(
        workshop: Arc<Workshop<G>>,
        vm: Arc<Vm<G::Conversation>>,
    ) -> Result<(), Cause> {
        let dir = RunDir::make(&workshop.settings.runtime_dir, &vm.id)
            .map_err(|error| machine_cause(&error))?;
        let life = Self::new(workshop, vm, dir);
        let made = life.make_warm().await;
        if let Some(machine) = life.vm.machine() {
            machine.end().await;
        }
        life.dir.discard();
        match made {
            Ok(()) | Err(Turn::Stop) => Ok(()),
            Err(Turn::Failure(cause)) => Err(cause),
        }
    }

    async fn make_warm(&self) -> Result<(), Turn> {
        let (workshop, plan) = (&self.workshop, &self.vm.plan);
        self.save().await?;
        let need = booting(plan);
        let _place = self.unless_stopped(workshop.admission.enter(&need, Origin::New)).await??;
        let prepared = self.unless_stopped(self.prepare()).await??;
        let driver = workshop.drivers.get(plan.hypervisor).await?;
        self.vm.set_facts(facts(&self.vm, &prepared, &self.dir, &*driver));
        let beginnings = Beginning::all(plan, &prepared, &*driver, &workshop.settings.proc);
        let beginnings = beginnings.map_err(|error| machine_cause(&error))?;
        let warm = beginnings.iter().find(|beginning| beginning.is_warm());
        let Some(Beginning { key, content }) = warm else { return Ok(()) };
        let mut place = workshop.templates.place(key.clone()).await;
        if place.is_given_up() || place.open(&*driver).await.is_some() {
            return Ok(());
        }
        // Those that begin meanwhile do not wait for it.
        drop(place);
        let draft = workshop.templates.draft()?;
        let asked = machine(plan, &self.vm.id, &self.dir, &prepared);
        let made = self.make(draft.path(), content, (&*driver, &asked)).await;
        // All of it is on disk now: both it and the template would take memory.
        self.clear().await?;
        let mut place = workshop.templates.place(key.clone()).await;
        match made {
            Ok(()) => drop(place.keep(draft, &*driver).await?),
            Err(Turn::Stop) => return Err(Turn::Stop),
            Err(failure) => {
                place.give_up();
                return Err(failure);
            }
        }
        drop(place);
        // Others begin from the new one.
        for old in beginnings.iter().filter(|old| matches!(old.content, Content::Nothing)) {
            workshop.templates.close(&old.key);
        }
        Ok(())
    }

    /// Has the server run until it has answered, has nothing more to do, or has taken its time.
    pub(super) async fn rehearses(
        &self,
        server: &Spawn,
        (machine, link): (&Arc<dyn Running>, &Link),
    ) -> Result<(), Cause> {
        let agent = Agent::new(link.clone());
        let begun = async {
            agent.prepare(self.nobody()).await?;
            agent.rehearse(server.clone()).await
        };
        let session = begun.await.map_err(|error: AgentError| agent_cause(&error))?;
        let id = session.id();
        let (stdin, stdout, _, _) = session.into_parts();
        let pipes = Pipes { stdin: Box::new(stdin), stdout: Box::new(stdout) };
        let limit = self.vm.plan.start_timeout;
        let image = self.vm.facts().map(|facts| facts.image).ok_or_else(no_facts)?;
        // What it lists without its environment is not what its user is asked to accept.
        let plan = Plan { locked: None, ..self.vm.plan.clone() };
        let meeting = Meeting { plan: &plan, image: &image, greeting: Greeting::Usual, limit };
        let run = async {
            tokio::select! {
                _ = self.workshop.greeter.greet(pipes, meeting) => {}
                () = settles(machine.process()) => {}
            }
        };
        let _ = timeout(limit, run).await;
        agent.close(id).await.map_err(|error| agent_cause(&error))
    }
}

fn no_facts() -> Cause {
    Cause::new(CauseKind::Machine, "nothing is known of the image")
}
