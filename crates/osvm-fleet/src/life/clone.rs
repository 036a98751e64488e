//! How a VM begins as a clone: of the template that there is, or of one that it makes of itself.
//!
//! ```text
//! no template:  boots ── agent answers ── hung up ── saved ── ended ─┐
//! template:     ─────────────────────────────────────────────────────┴─> restored ── folders lent ── resumed
//! ```
//!
//! Nothing of what the VM is to have is in the template: its name, time and randomness, hosts, folders and secrets come
//! afterwards. Where there can be no template, the VM boots as others do.

use std::sync::Arc;
use std::time::Duration;

use osvm_spec::TemplateLevel;
use osvm_vmm::{Driver, Link, Machine, Running, Template};
use tokio::time::timeout;

use super::{Life, Turn};
use crate::agent::Agent;
use crate::drivers::{chain, vmm_cause};
use crate::greeter::Greeter;
use crate::prepare::Prepared;
use crate::state::{Cause, CauseKind};
use crate::templates::{Key, Place};
use crate::vm::{Facts, agent_cause};

/// How long a guest may take to notice that nobody is connected any more.
const HANGS_UP: Duration = Duration::from_millis(100);

/// A template that turns out to be of no use is made once more.
const ATTEMPTS: usize = 2;

impl<G: Greeter> Life<G> {
    /// One whose agent has answered; nothing where the VM has to boot.
    pub(super) async fn as_clone(
        &self,
        prepared: &Prepared,
        asked: (&dyn Driver, &Machine),
        restored_from: Option<Key>,
    ) -> Result<Option<(Arc<dyn Running>, Link)>, Turn> {
        let key = self.key(prepared, asked.0);
        let clone = match self.waiting_clone(restored_from, key.as_ref()).await? {
            Some(clone) => Some(clone),
            None => match key {
                Some(key) => self.clone_of_template(key, asked).await?,
                None => None,
            },
        };
        if clone.is_some()
            && let Some(facts) = self.vm.facts()
        {
            self.vm.set_facts(Facts { cloned: true, ..facts });
        }
        Ok(clone)
    }

    /// Of the template that the VM can begin from, if it may.
    fn key(&self, prepared: &Prepared, driver: &dyn Driver) -> Option<Key> {
        let plan = &self.vm.plan;
        if plan.template == TemplateLevel::None || !driver.capabilities().snapshot {
            return None;
        }
        let key = Key::of(plan, prepared, driver, &self.workshop.settings.proc);
        key.inspect_err(|error| self.boots_instead(error)).ok()
    }

    /// Goes on with the machine that was restored for a VM like this one, unless it is of no use any more.
    async fn waiting_clone(
        &self,
        restored_from: Option<Key>,
        wanted: Option<&Key>,
    ) -> Result<Option<(Arc<dyn Running>, Link)>, Turn> {
        let (Some(key), Some(machine)) = (restored_from, self.vm.machine()) else {
            return Ok(None);
        };
        if wanted == Some(&key) {
            match self.wake_clone(&machine).await {
                Ok(link) => return Ok(Some((machine, link))),
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
        key: Key,
        asked: (&dyn Driver, &Machine),
    ) -> Result<Option<(Arc<dyn Running>, Link)>, Turn> {
        for _ in 0..ATTEMPTS {
            let template = match self.template(key.clone(), asked).await {
                Ok(template) => template,
                Err(Turn::Stop) => return Err(Turn::Stop),
                Err(Turn::Failure(cause)) => {
                    self.boots_instead(&cause);
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
        self.workshop.templates.place(key).await.give_up();
        Ok(None)
    }

    fn boots_instead(&self, why: &dyn std::error::Error) {
        let why = chain(why);
        tracing::warn!(vm = %self.vm.id, why, "there is no template");
        self.diary.note(&format!("there is no template, and the guest boots: {why}"));
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

    async fn template(
        &self,
        key: Key,
        (driver, asked): (&dyn Driver, &Machine),
    ) -> Result<Arc<dyn Template>, Turn> {
        let mut place = self.unless_stopped(self.workshop.templates.place(key)).await?;
        if let Some(template) = place.open(driver).await {
            return Ok(template);
        }
        if place.is_given_up() {
            let why = "one could not be made a short time ago";
            return Err(Cause::new(CauseKind::Machine, why).into());
        }
        self.diary.note("making a template");
        let made = self.make(&mut place, (driver, asked)).await;
        if matches!(made, Err(Turn::Failure(_))) {
            place.give_up();
        }
        self.clear().await?;
        made
    }

    /// Boots the guest, and saves it when its agent has answered.
    async fn make(
        &self,
        place: &mut Place,
        (driver, asked): (&dyn Driver, &Machine),
    ) -> Result<Arc<dyn Template>, Turn> {
        let draft = place.draft()?;
        let started = driver.start(asked).await.map_err(|error| vmm_cause(&error))?;
        let machine = self.has_begun(driver, started);
        self.is_booting().await?;
        self.unless_asleep(&machine, self.answers(&machine)).await?.ok_or_else(sleeps)?;
        let saved = async {
            let saved = machine.save(draft.path()).await;
            saved.map_err(|error| vmm_cause(&error))
        };
        self.while_alive(&machine, saved).await?;
        Ok(place.keep(draft, driver).await?)
    }

    /// Hangs up afterwards.
    async fn answers(&self, machine: &Arc<dyn Running>) -> Result<(), Cause> {
        let connected = machine.connect(self.vm.plan.start_timeout).await;
        let link = connected.map_err(|error| self.deaf(&error))?;
        // Nothing that would have the kernel make up anything random, as its boot id.
        let said = Agent::new(link.clone()).sessions().await;
        link.hang_up();
        // Whether it has noticed nobody tells. One that notices only as a clone loses nothing but time.
        let _ = timeout(HANGS_UP, machine.exited()).await;
        said.map(drop).map_err(|error| agent_cause(&error))
    }
}

fn sleeps() -> Cause {
    Cause::new(CauseKind::Machine, "the guest sleeps instead of answering")
}
