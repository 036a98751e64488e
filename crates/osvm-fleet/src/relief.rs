//! Who gives memory back where it is short for one more VM: first what osvm keeps to be faster, then VMs that have nothing
//! to do.

use std::time::Duration;

use crate::admission::Origin;
use crate::fleet::Workshop;
use crate::greeter::Greeter;
use crate::plan::{Plan, StartedBy};
use crate::state::{Cause, State};
use crate::templates::Key;

/// How long a VM must have had nothing to do before it may be suspended for another.
const RELIEVED_AFTER: Duration = Duration::from_secs(5);

impl<G: Greeter> Workshop<G> {
    /// Gives back what nothing needs now for as long as there is not enough memory for a VM of that plan.
    pub(crate) async fn make_room(&self, plan: &Plan) {
        while self.admission.is_short(plan, self.origin(plan)) && self.relieve(plan).await {}
    }

    pub(crate) fn admit(&self, plan: &Plan) -> Result<(), Cause> {
        self.admission.admit(plan, self.origin(plan))
    }

    /// Of a VM of that plan, if it began now.
    fn origin(&self, plan: &Plan) -> Origin {
        self.spares.waiting(plan).map_or(Origin::New, Origin::Spare)
    }

    /// Gives back memory for a VM of that plan: what osvm keeps to be faster, then what a VM takes that has nothing to do.
    /// Whether there was any.
    pub(crate) async fn relieve(&self, plan: &Plan) -> bool {
        // It would be brought into memory again at once.
        let own = self.admission.template_of(plan);
        self.spares.give_up().await
            || self.close_templates(Duration::ZERO, own)
            || self.suspend_idlest().await
    }

    /// Closes templates that nothing has begun from for so long, and of which no VM's memory is: that would stay, and the
    /// next clone would have another copy. Whether there were any.
    pub(crate) fn close_templates(&self, unused: Duration, but: Option<Key>) -> bool {
        let stay: Vec<_> = self.in_use().chain(but.map(|key| key.name())).collect();
        let closed = self.templates.close_unused(unused, &stay);
        self.admission.forget_clones_of(&closed);
        !closed.is_empty()
    }

    /// Closes one, unless a VM's memory is of it.
    pub(crate) fn close_template(&self, key: &Key) {
        let name = key.name();
        if self.in_use().all(|used| used != name) {
            self.templates.close(key);
            self.admission.forget_clones_of(&[name]);
        }
    }

    /// Templates that VMs which run have come of, by name.
    fn in_use(&self) -> impl Iterator<Item = String> {
        let vms = self.all().into_iter().filter(|vm| vm.has_process());
        vms.filter_map(|vm| vm.template()).map(|key| key.name())
    }

    /// Suspends the VM that has had nothing to do for the longest time; whether there was one. Of those that the user has
    /// launched there is none.
    async fn suspend_idlest(&self) -> bool {
        let mut idle: Vec<_> = self
            .all()
            .into_iter()
            .filter(|vm| vm.plan.started_by == StartedBy::Auto && vm.state() == State::Ready)
            .filter(|vm| vm.may_be_suspended())
            .filter_map(|vm| Some((vm.activity.still(vm.launched)?, vm)))
            .filter(|(still, _)| *still >= RELIEVED_AFTER)
            .collect();
        idle.sort_by_key(|(still, _)| std::cmp::Reverse(*still));
        for (_, vm) in idle {
            match vm.suspend().await {
                Ok(()) => return true,
                Err(cause) => tracing::info!(vm = %vm.id, %cause, "not suspended"),
            }
        }
        false
    }
}
