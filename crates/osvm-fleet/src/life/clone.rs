//! How a VM begins as a clone: of the template that there is, or of one that it makes of itself.
//!
//! ```text
//! no template:  boots ── agent answers ── [server waits, or has run] ── hung up ── saved ── ended ─┐
//! template:     ───────────────────────────────────────────────────────────────────────────────────┴─> restored ── folders lent ── resumed
//! ```
//!
//! Nothing of what the VM is to have is in the template: its name, time and randomness, hosts, folders and secrets come
//! afterwards. At level `started` the server's process is, of a server that has none of these: it was started, and
//! nothing was said to it. Where there can be no such template, one without a server does; where there can be none at
//! all, the VM boots as others do. One in which the server has run before is made by [`super::rehearse`], and taken where it
//! is there.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use osvm_vmm::{Driver, Link, Machine, Process, Running, Template};
use osvm_wire::message::{Prepare, Spawn};
use tokio::time::timeout;

use super::{HANGS_UP, Life, Turn, sleeps};
use crate::agent::{Agent, AgentError};
use crate::drivers::{chain, vmm_cause};
use crate::greeter::Greeter;
use crate::prepare::Prepared;
use crate::state::{Cause, CauseKind};
use crate::templates::{Beginning, Content, Key};
use crate::vm::{Facts, agent_cause};

/// How often it is looked whether a server has nothing more to do,
const LOOK: Duration = Duration::from_millis(250);
/// which has to be found that many times in a row.
const QUIET_LOOKS: u32 = 3;

/// A template that turns out to be of no use is made once more.
const ATTEMPTS: usize = 2;

/// What it finds as its guest's name, until the clone has its own.
const NAMELESS: &str = "osvm";

impl<G: Greeter> Life<G> {
    /// One whose agent has answered; nothing where the VM has to boot.
    pub(super) async fn as_clone(
        &self,
        prepared: &Prepared,
        asked: (&dyn Driver, &Machine),
        restored_from: Option<Key>,
    ) -> Result<Option<(Arc<dyn Running>, Link)>, Turn> {
        let proc = &self.workshop.settings.proc;
        let beginnings = Beginning::all(&self.vm.plan, prepared, asked.0, proc);
        let beginnings = beginnings.unwrap_or_else(|error| {
            self.does_without(None, &error);
            Vec::new()
        });
        if let Some(key) = restored_from {
            let beginning = beginnings.iter().find(|beginning| beginning.key == key);
            if let Some(clone) = self.restored(beginning).await? {
                return Ok(Some(clone));
            }
        }
        for beginning in &beginnings {
            if let Some(clone) = self.clone_of_template(beginning, asked).await? {
                self.has_begun_as(beginning);
                if matches!(beginning.content, Content::Nothing)
                    && beginnings.iter().any(Beginning::is_warm)
                {
                    self.workshop.rehearsals.want(&self.vm.plan);
                }
                return Ok(Some(clone));
            }
        }
        Ok(None)
    }

    fn has_begun_as(&self, beginning: &Beginning) {
        if let Some(facts) = self.vm.facts() {
            self.vm.set_facts(Facts { cloned: true, ..facts });
        }
        self.vm.set_template(beginning.key.clone());
        if let Content::Waiting(server) = &beginning.content {
            self.vm.set_waiting(server.session);
        }
    }

    /// Goes on with the machine that was restored for a VM like this one, unless it is of no use any more.
    async fn restored(
        &self,
        beginning: Option<&Beginning>,
    ) -> Result<Option<(Arc<dyn Running>, Link)>, Turn> {
        if let Some((machine, beginning)) = self.vm.machine().zip(beginning) {
            match self.wake_clone(&machine).await {
                Ok(link) => {
                    self.has_begun_as(beginning);
                    return Ok(Some((machine, link)));
                }
                Err(Turn::Stop) => return Err(Turn::Stop),
                Err(Turn::Failure(cause)) => {
                    self.diary.note(&format!("the clone that has waited is of no use: {cause}"));
                }
            }
        }
        self.clear().await?;
        Ok(None)
    }

    async fn clone_of_template(
        &self,
        beginning: &Beginning,
        asked: (&dyn Driver, &Machine),
    ) -> Result<Option<(Arc<dyn Running>, Link)>, Turn> {
        let Beginning { key, content } = beginning;
        for _ in 0..ATTEMPTS {
            let template = match self.template(beginning, asked).await {
                Ok(Some(template)) => template,
                Ok(None) => return Ok(None),
                Err(Turn::Stop) => return Err(Turn::Stop),
                Err(Turn::Failure(cause)) => {
                    self.does_without(Some(content), &cause);
                    return Ok(None);
                }
            };
            match self.go_on_from(&*template, asked).await {
                Ok(clone) => return Ok(Some(clone)),
                Err(Turn::Stop) => return Err(Turn::Stop),
                Err(Turn::Failure(cause)) => {
                    self.diary.note(&format!("the template is of no use: {cause}"));
                    let mut place = self.workshop.templates.place(key.clone()).await;
                    place.drop(&template, &cause.message);
                    self.clear().await?;
                }
            }
        }
        self.workshop.templates.place(key.clone()).await.give_up();
        Ok(None)
    }

    fn does_without(&self, content: Option<&Content>, why: &dyn std::error::Error) {
        let why = chain(why);
        tracing::warn!(vm = %self.vm.id, why, "there is no template");
        self.diary.note(&match content {
            Some(Content::Waiting(_)) => {
                format!("there is no template in which the server waits: {why}")
            }
            _ => format!("there is no template, and the guest boots: {why}"),
        });
    }

    async fn go_on_from(
        &self,
        template: &dyn Template,
        (driver, asked): (&dyn Driver, &Machine),
    ) -> Result<(Arc<dyn Running>, Link), Turn> {
        let restored = template.restore(asked).await.map_err(|error| vmm_cause(&error))?;
        let machine = self.has_begun(driver, restored);
        let link = self.wake_clone(&machine).await?;
        Ok((machine, link))
    }

    /// Folders are lent before the guest can ask for them.
    async fn wake_clone(&self, machine: &Arc<dyn Running>) -> Result<Link, Turn> {
        self.lend(machine).await?;
        self.is_booting().await?;
        machine.resume().await.map_err(|error| vmm_cause(&error))?;
        let link = self.unless_asleep(machine, self.wake(machine)).await?;
        Ok(link.ok_or_else(sleeps)?)
    }

    /// The one that there is, or is made now; nothing where it is for a quiet moment to make.
    async fn template(
        &self,
        Beginning { key, content }: &Beginning,
        asked: (&dyn Driver, &Machine),
    ) -> Result<Option<Arc<dyn Template>>, Turn> {
        let place = self.workshop.templates.place(key.clone());
        let mut place = self.unless_stopped(place).await?;
        if let Some(template) = place.open(asked.0).await {
            return Ok(Some(template));
        }
        if matches!(content, Content::Warm(_)) {
            return Ok(None);
        }
        if place.is_given_up() {
            let why = "one could not be made a short time ago";
            return Err(Cause::new(CauseKind::Machine, why).into());
        }
        self.diary.note("making a template");
        let made = async {
            let draft = self.workshop.templates.draft()?;
            let made = self.make(draft.path(), content, asked).await;
            // All of it is on disk now: both it and the template would take memory.
            self.clear().await?;
            made?;
            Ok(place.keep(draft, asked.0).await?)
        };
        let made = made.await;
        if matches!(made, Err(Turn::Failure(_))) {
            place.give_up();
        }
        made.map(Some)
    }

    /// Boots the guest, and saves it there when its agent has answered and the server, if there is to be one, waits or has
    /// run.
    pub(super) async fn make(
        &self,
        draft: &Path,
        content: &Content,
        (driver, asked): (&dyn Driver, &Machine),
    ) -> Result<(), Turn> {
        let started = driver.start(asked).await.map_err(|error| vmm_cause(&error))?;
        let machine = self.has_begun(driver, started);
        self.is_booting().await?;
        let link = self.unless_asleep(&machine, self.answers(&machine)).await?;
        let link = link.ok_or_else(sleeps)?;
        let fill = async {
            match content {
                Content::Waiting(server) => self.has_waiting(server, (&machine, &link)).await,
                Content::Warm(server) => self.rehearses(server, (&machine, &link)).await,
                Content::Nothing => Ok(()),
            }
        };
        self.while_alive(&machine, fill).await?;
        link.hang_up();
        // Whether it has noticed nobody tells. One that notices only as a clone loses nothing but time.
        let _ = timeout(HANGS_UP, machine.exited()).await;
        let saved = async { machine.save(draft).await.map_err(|error| vmm_cause(&error)) };
        self.while_alive(&machine, saved).await
    }

    async fn answers(&self, machine: &Arc<dyn Running>) -> Result<Link, Cause> {
        let connected = machine.connect(self.vm.plan.start_timeout).await;
        let link = connected.map_err(|error| self.deaf(&error))?;
        // Nothing that would have the kernel make up anything random, as its boot id.
        let said = Agent::new(link.clone()).sessions().await;
        said.map(|_| link).map_err(|error| agent_cause(&error))
    }

    /// What a guest is told of itself that others are to be cloned from.
    pub(super) fn nobody(&self) -> Prepare {
        Prepare { hostname: NAMELESS.to_owned(), ..self.identity() }
    }

    /// Starts the server, and leaves it when it has nothing more to do.
    async fn has_waiting(
        &self,
        server: &Spawn,
        (machine, link): (&Arc<dyn Running>, &Link),
    ) -> Result<(), Cause> {
        let agent = Agent::new(link.clone());
        let begun = async {
            agent.prepare(self.nobody()).await?;
            agent.begin(server.clone()).await?;
            // One that is still busy then goes on being so in the clones.
            let _ = timeout(self.vm.plan.start_timeout, settles(machine.process())).await;
            agent.sessions().await
        };
        let sessions = begun.await.map_err(|error: AgentError| agent_cause(&error))?;
        let ours = sessions.iter().find(|session| session.session == server.session);
        match ours.map(|session| session.exit) {
            Some(None) => Ok(()),
            Some(Some(exit)) => {
                let message = format!("the server {exit} before it was spoken to");
                Err(Cause::new(CauseKind::Server, message))
            }
            None => Err(Cause::new(CauseKind::Server, "the server is gone")),
        }
    }
}

/// Waits until the guest hardly wants a processor. Whether it gets one is another matter on a busy host, and neither
/// what it has used nor its own account tells.
pub(super) async fn settles(vmm: &Process) {
    let (mut since, mut then, mut quiet) = (Instant::now(), vmm.wanted_time(), 0);
    while quiet < QUIET_LOOKS {
        tokio::time::sleep(LOOK).await;
        let now = vmm.wanted_time();
        let wanted = now.zip(then).map(|(now, then)| now.saturating_sub(then));
        let is_busy =
            vmm.is_runnable() || wanted.is_some_and(|wanted| wanted > since.elapsed() / 2);
        quiet = if is_busy { 0 } else { quiet + 1 };
        (since, then) = (Instant::now(), now);
    }
}
