//! Whether the host can hold one more VM, and whose turn it is to start.
//!
//! Memory that a guest never touches costs nothing, so sizes are not added up. What a VM is likely to need is what the
//! last one like it came to, less what it takes already ([`Origin`]). Each that starts has that much set aside until it is
//! ready: then it is no longer available, and shows. What it has taken by then counts twice, which at most makes others
//! wait. One that does not fit waits while others start, and is refused when none does.
//!
//! What clones came to is known for as long as their template is in memory. Without it, or before, the next one is taken to
//! need as much as one that boots: it may have to make the template, and has to bring it into memory.

mod host;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use osvm_spec::{Hypervisor, Resources, TemplateLevel};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use crate::memory::Memory;
use crate::plan::{Plan, Purpose, Rootfs};
use crate::state::{Cause, CauseKind};
use crate::templates::Key;
use host::Host;

const MIB: u64 = 1 << 20;

/// What a VM is taken to need of which none like it is known, the VMM included; and a clone that is restored already.
const COLD: u64 = 160 * MIB;
const CLONE: u64 = 64 * MIB;

/// Beside what is on disk of it, what a VM is taken to need that is woken: its VMM's own, and what its guest touches anew.
const BESIDE: u64 = 64 * MIB;

/// What is left to the host: a sixteenth of its memory, within these.
const KEPT: (u64, u64) = (64 * MIB, 1024 * MIB);

/// Kinds of VMs that are known. Beyond that all are forgotten, and learnt anew.
const MOST_KINDS: usize = 256;

/// The way in for VMs that are to start.
pub(crate) struct Admission {
    proc: PathBuf,
    /// Places for VMs that start at the same time.
    places: Semaphore,
    /// Held by the one who asks for memory: who needs much is not passed by for ever by those who need little.
    turn: tokio::sync::Mutex<()>,
    ledger: Mutex<Ledger>,
    /// Heard whenever a VM no longer starts.
    left: Notify,
}

#[derive(Default)]
struct Ledger {
    starting: usize,
    set_aside: u64,
    /// By those that were ready last.
    came_to: HashMap<Kind, Came>,
}

/// What a VM came to.
struct Came {
    bytes: u64,
    /// As a clone of this one.
    template: Option<Key>,
}

/// Where a VM's memory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It boots, or is cloned, from a template that it makes first if there is none.
    New,
    /// It was restored before, and takes so many bytes already.
    Spare(u64),
    /// It was suspended, with so many bytes. All that its guest had ever changed becomes its own again.
    Disk(u64),
}

/// What VMs have in common that need about as much as each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Kind {
    resources: Resources,
    hypervisor: Hypervisor,
    template: TemplateLevel,
    kernel: PathBuf,
    rootfs: Rootfs,
    purpose: Purpose,
    command: Vec<String>,
    args: Vec<String>,
}

/// Among those that start. Given up when dropped.
pub(crate) struct Place<'a> {
    admission: &'a Admission,
    kind: Kind,
    need: u64,
    _permit: SemaphorePermit<'a>,
}

/// Why a VM does not fit, in bytes.
struct Lack {
    need: u64,
    /// Beyond what is kept for the host.
    free: u64,
    kept: u64,
    starting: usize,
    set_aside: u64,
    boots: bool,
}

impl Admission {
    pub(crate) fn new(proc: PathBuf, places: usize) -> Self {
        Self {
            proc,
            places: Semaphore::new(places.max(1)),
            turn: tokio::sync::Mutex::default(),
            ledger: Mutex::default(),
            left: Notify::new(),
        }
    }

    /// Refuses at once what waiting would not help.
    pub(crate) fn admit(&self, plan: &Plan, origin: Origin) -> Result<(), Cause> {
        let Some(host) = Host::read(&self.proc) else { return Ok(()) };
        if plan.resources.memory_bytes() > host.total {
            return Err(larger_than(&host, plan.resources));
        }
        match self.ledger().fits(plan, origin, &host) {
            Err(lack) if lack.starting == 0 => Err(lack.cause()),
            _ => Ok(()),
        }
    }

    /// Whether it is memory that others hold which a VM of that plan lacks.
    pub(crate) fn is_short(&self, plan: &Plan, origin: Origin) -> bool {
        Host::read(&self.proc).is_some_and(|host| {
            plan.resources.memory_bytes() <= host.total
                && self.ledger().fits(plan, origin, &host).is_err()
        })
    }

    /// A place among the VMs that start, with memory set aside. Waits for its turn, and then for no longer than the VM
    /// itself may take.
    pub(crate) async fn enter(&self, plan: &Plan, origin: Origin) -> Result<Place<'_>, Cause> {
        let permit = self.places.acquire().await.expect("the semaphore is never closed");
        let _turn = self.turn.lock().await;
        let deadline = Instant::now() + plan.start_timeout;
        loop {
            let left = self.left.notified();
            match self.set_aside(plan, origin) {
                Ok(need) => {
                    let kind = Kind::of(plan);
                    return Ok(Place { admission: self, kind, need, _permit: permit });
                }
                Err(lack) if lack.starting == 0 => return Err(lack.cause()),
                Err(lack) => timeout_at(deadline, left).await.map_err(|_| lack.cause())?,
            }
        }
    }

    /// Waits until no VM starts, but for no longer than that.
    pub(crate) async fn quiet(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        loop {
            let left = self.left.notified();
            if self.ledger().starting == 0 || timeout_at(deadline, left).await.is_err() {
                return;
            }
        }
    }

    /// The template that the last VM like this one was cloned from, if what it came to is known.
    pub(crate) fn template_of(&self, plan: &Plan) -> Option<Key> {
        self.ledger().came_to.get(&Kind::of(plan))?.template.clone()
    }

    /// These templates are not in memory any more: their next clones need more than the last ones came to.
    pub(crate) fn forget_clones_of(&self, closed: &[String]) {
        self.ledger().came_to.retain(|_, came| match &came.template {
            Some(template) => !closed.contains(&template.name()),
            None => true,
        });
    }

    fn set_aside(&self, plan: &Plan, origin: Origin) -> Result<u64, Lack> {
        let host = Host::read(&self.proc);
        let mut ledger = self.ledger();
        let need = match host {
            Some(host) => ledger.fits(plan, origin, &host)?,
            None => ledger.need(plan, origin),
        };
        ledger.starting += 1;
        ledger.set_aside += need;
        Ok(need)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn need(&self, plan: &Plan, origin: Origin) -> u64 {
        let kind = Kind::of(plan);
        let known = self.came_to.get(&kind).map(|came| came.bytes);
        let new = || known.unwrap_or_else(|| self.cold(kind));
        match origin {
            Origin::New => new(),
            Origin::Spare(has) => known.unwrap_or(CLONE).saturating_sub(has),
            Origin::Disk(bytes) => new().max(bytes + BESIDE),
        }
    }

    /// What one of that kind needs if it boots.
    fn cold(&self, kind: Kind) -> u64 {
        let boots = Kind { template: TemplateLevel::None, ..kind };
        self.came_to.get(&boots).map_or(COLD, |came| came.bytes)
    }

    /// What the VM needs, which is there.
    fn fits(&self, plan: &Plan, origin: Origin, host: &Host) -> Result<u64, Lack> {
        let need = self.need(plan, origin);
        let kept = (host.total / 16).clamp(KEPT.0, KEPT.1);
        let free = host.available.saturating_sub(kept);
        if free >= self.set_aside + need {
            return Ok(need);
        }
        let Self { starting, set_aside, .. } = *self;
        Err(Lack { need, free, kept, starting, set_aside, boots: boots(plan) })
    }

    fn learn(&mut self, kind: Kind, came: Came) {
        if self.came_to.len() >= MOST_KINDS {
            self.came_to.clear();
        }
        self.came_to.insert(kind, came);
    }
}

fn boots(plan: &Plan) -> bool {
    plan.template == TemplateLevel::None
}

impl Kind {
    fn of(plan: &Plan) -> Self {
        let Plan { resources, hypervisor, template, purpose, .. } = *plan;
        let (kernel, rootfs) = (plan.kernel.clone(), plan.rootfs.clone());
        let (command, args) = (plan.command.clone(), plan.args.clone());
        Self { resources, hypervisor, template, kernel, rootfs, purpose, command, args }
    }
}

impl Place<'_> {
    /// The VM is ready: what its process holds is what the next one like it needs. Not of one that was woken, which has
    /// what its guest has ever touched.
    pub(crate) async fn ready(self, pid: Option<u32>, template: Option<Key>) {
        if let Some(pid) = pid
            && let Some(memory) = Memory::measured(&self.admission.proc, pid).await
        {
            let came = Came { bytes: memory.proportional, template };
            self.admission.ledger().learn(self.kind.clone(), came);
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut ledger = self.admission.ledger();
        ledger.starting -= 1;
        ledger.set_aside -= self.need;
        drop(ledger);
        self.admission.left.notify_waiters();
    }
}

fn larger_than(host: &Host, asked: Resources) -> Cause {
    let (asked, total) = (asked.memory_mib(), host.total / MIB);
    let message = format!("memory of {asked} MiB is more than this host's {total} MiB");
    Cause::new(CauseKind::Machine, message).hint("--memory with a smaller number")
}

impl Lack {
    fn cause(&self) -> Cause {
        let [need, free, kept, set_aside] =
            [self.need, self.free, self.kept, self.set_aside].map(|bytes| bytes / MIB);
        let mut message = format!(
            "this host can't hold one more VM like this, which needs about {need} MiB: {free} MiB of memory are \
             available beyond the {kept} MiB that are kept for the host"
        );
        if self.starting > 0 {
            let starting = self.starting;
            message += &format!(", and VMs that are starting ({starting}) need {set_aside} MiB");
        }
        let cause = Cause::new(CauseKind::Machine, message)
            .hint("osvm mcp microvm status --memory")
            .hint("osvm mcp microvm stop NAME");
        if self.boots { cause.hint("--template booted: clones share memory") } else { cause }
    }
}
