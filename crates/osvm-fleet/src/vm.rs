//! One microVM as the rest of osvm sees it: state, figures, and the ways to talk to its guest.
//!
//! Who moves it from state to state is [`crate::life`]; nobody else does.

mod activity;
mod faults;
mod rest;
mod talk;
mod waiters;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use osvm_spec::{Digest, Secrets};
use osvm_vmm::jail::Standing;
use osvm_vmm::{Process, Running};
use osvm_wire::message::SessionId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub(crate) use activity::Activity;
pub use activity::Visit;
pub(crate) use talk::agent_cause;
pub use talk::{Ending, Server};

use crate::agent::Agent;
use crate::diary::Diary;
use crate::id::VmId;
use crate::plan::Plan;
use crate::record::ReadyRecord;
use crate::rundir::secrets_mark;
use crate::state::{Cause, CauseKind, State};
use crate::templates::Key;
use faults::Faults;
use rest::Askers;
pub(crate) use talk::LeftTalk;
use talk::Talk;
use waiters::Waiters;

/// One VM, from the moment it was asked for. `C` is a conversation with its server.
pub struct Vm<C> {
    pub id: VmId,
    pub plan: Plan,
    pub created: SystemTime,
    pub(crate) launched: Instant,
    state: watch::Sender<State>,
    /// Whether it was asked to end. Its life may be in a step that is not given up halfway, and its state as it was.
    stop: watch::Sender<bool>,
    askers: Askers,
    waiters: Waiters,
    pub(crate) activity: Activity,
    faults: Faults,
    inside: Mutex<Inside>,
    /// The conversation that made the VM ready; renewed when its server process has ended.
    conversation: tokio::sync::Mutex<Option<Talk<C>>>,
}

/// What comes to be while a VM starts.
#[derive(Default)]
struct Inside {
    facts: Option<Facts>,
    timings: Timings,
    machine: Option<Arc<dyn Running>>,
    agent: Option<Agent>,
    diary: Option<Diary>,
    /// Servers of the folders that it is lent, where this daemon has started them.
    folders: Arc<[Process]>,
    /// As last brought by whoever used the VM. In no file: a later daemon is brought them again.
    secrets: Secrets,
    /// Whether its memory may hold any, of whatever time.
    is_secret: bool,
    is_used: bool,
    /// Of the server that its template had waiting, until somebody speaks to that.
    waiting: Option<SessionId>,
    /// The conversation of an earlier daemon, until somebody needs it.
    left: Option<LeftTalk>,
    /// Of a VM that an earlier daemon has suspended: the session that is kept, whose others have lost their clients.
    kept_alone: Option<SessionId>,
    /// That it began from.
    template: Option<Key>,
}

/// What is fixed once the machine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Name and version of the VMM.
    pub vmm: String,
    pub accelerator: String,
    /// Whether it began as a clone.
    #[serde(default)]
    pub cloned: bool,
    /// Digest of the image.
    pub image: Digest,
    pub command: Vec<String>,
    pub env: Vec<(String, String)>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub run_dir: PathBuf,
}

/// Time since the launch was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    pub prepared: Option<Duration>,
    pub agent: Option<Duration>,
    pub ready: Option<Duration>,
}

impl<C> Vm<C> {
    pub(crate) fn new(id: VmId, plan: Plan, created: SystemTime, state: State) -> Self {
        let (secrets, is_secret) = (plan.secrets.clone(), !plan.secrets.is_empty());
        let inside = Inside { secrets, is_secret, ..Inside::default() };
        Self {
            id,
            plan,
            created,
            launched: Instant::now(),
            state: watch::Sender::new(state),
            stop: watch::Sender::new(false),
            askers: Askers::default(),
            waiters: Waiters::default(),
            activity: Activity::default(),
            faults: Faults::default(),
            inside: Mutex::new(inside),
            conversation: tokio::sync::Mutex::default(),
        }
    }

    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Hears every state from now on.
    pub fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub fn facts(&self) -> Option<Facts> {
        self.inside().facts.clone()
    }

    pub fn timings(&self) -> Timings {
        self.inside().timings
    }

    pub fn uptime(&self) -> Duration {
        self.created.elapsed().unwrap_or_default()
    }

    /// The VMM's process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.machine().map(|machine| machine.process().identity().pid)
    }

    /// What is around the VMM, while there is one.
    pub fn jail(&self) -> Vec<Standing> {
        self.machine().map(|machine| machine.saved().jail).unwrap_or_default()
    }

    /// Asks the VM to end; [`Self::ended`] tells when it has.
    pub fn ask_to_stop(&self) {
        self.stop.send_replace(true);
    }

    pub(crate) async fn asked_to_stop(&self) {
        let mut stop = self.stop.subscribe();
        stop.wait_for(|asked| *asked).await.expect("its sender is in self");
    }

    /// Whether it is on its way down, or will be as soon as its life hears of it. It is nobody's to begin with then.
    pub(crate) fn is_leaving(&self) -> bool {
        *self.stop.borrow() || self.state() == State::Stopping
    }

    /// Waits until the VM is ready, or has come to its end; wakes one that is suspended.
    pub async fn ready(&self) -> Result<(), Cause> {
        if let Some(agent) = self.agent().filter(|_| self.state() == State::Suspended) {
            // One that is stopped meanwhile has an agent that is gone, which is not why.
            agent.wake().await.map_err(|error| match self.is_leaving() {
                true => self.stopped_early(),
                false => agent_cause(&error),
            })?;
        }
        let mut states = self.states();
        let reached = states.wait_for(|state| *state == State::Ready || state.is_end()).await;
        match reached.as_deref() {
            Ok(State::Ready) => Ok(()),
            Ok(State::Failed(cause)) => Err(cause.clone()),
            _ => Err(self.stopped_early()),
        }
    }

    /// Why those who waited for it don't get it.
    fn stopped_early(&self) -> Cause {
        let when = match self.timings().ready {
            None => "while it started",
            Some(_) => "before it could be used",
        };
        let message = format!("VM {} of server {} was stopped {when}", self.id, self.plan.name);
        Cause::new(CauseKind::Cancelled, message).hint("try again").hint("osvm mcp microvm status")
    }

    /// Waits until nothing of the VM is left.
    pub async fn ended(&self) -> State {
        let mut states = self.states();
        match states.wait_for(State::is_end).await {
            Ok(state) => state.clone(),
            Err(_) => State::Stopped,
        }
    }

    /// Follows the drawing in [`crate::state`]; a step that is not on it is a mistake of osvm's own.
    pub(crate) fn enter(&self, next: State) {
        self.state.send_modify(|state| {
            debug_assert!(state.may_become(&next), "{state} -> {next}");
            tracing::info!(vm = %self.id, name = %self.plan.name, from = %state, to = %next, "state");
            *state = next;
        });
    }

    pub(crate) fn set_facts(&self, facts: Facts) {
        self.inside().facts = Some(facts);
    }

    pub(crate) fn set_timings(&self, change: impl FnOnce(&mut Timings)) {
        change(&mut self.inside().timings);
    }

    /// What a ready one has, of one that an earlier daemon has made so.
    pub(crate) fn set_ready(&self, ready: &ReadyRecord) {
        let mut inside = self.inside();
        inside.facts = Some(ready.facts.clone());
        inside.timings = ready.timings;
        inside.template.clone_from(&ready.template);
    }

    pub(crate) fn set_machine(&self, machine: Arc<dyn Running>) {
        self.inside().machine = Some(machine);
    }

    pub(crate) fn clear_machine(&self) {
        self.inside().machine = None;
    }

    pub(crate) fn machine(&self) -> Option<Arc<dyn Running>> {
        self.inside().machine.clone()
    }

    /// One that runs, or at least has not been seen to end.
    pub(crate) fn has_process(&self) -> bool {
        self.machine().is_some_and(|machine| machine.process().try_exited().is_none())
    }

    pub(crate) fn set_folders(&self, servers: Vec<Process>) {
        self.inside().folders = servers.into();
    }

    pub(crate) fn folders(&self) -> Arc<[Process]> {
        Arc::clone(&self.inside().folders)
    }

    pub(crate) fn set_agent(&self, agent: Agent) {
        self.inside().agent = Some(agent);
    }

    pub(crate) fn agent(&self) -> Option<Agent> {
        self.inside().agent.clone()
    }

    pub(crate) fn set_diary(&self, diary: Diary) {
        self.inside().diary = Some(diary);
    }

    /// Takes the secrets that server processes are to be started with. None leaves those there are.
    pub(crate) fn bring(&self, secrets: &Secrets) {
        if !secrets.is_empty() {
            self.inside().secrets = secrets.clone();
            self.set_secret();
        }
    }

    /// For good.
    pub(crate) fn set_secret(&self) {
        self.inside().is_secret = true;
        self.mark_secret();
    }

    /// Tells later daemons, if it may hold secrets and has a place to tell it.
    pub(crate) fn mark_secret(&self) {
        if let Some(facts) = self.facts().filter(|_| self.is_secret())
            && let Err(error) = fs::write(secrets_mark(&facts.run_dir), "")
        {
            tracing::warn!(vm = %self.id, %error, "note that it holds secrets");
        }
    }

    fn is_secret(&self) -> bool {
        self.inside().is_secret
    }

    /// As server processes are started with now.
    pub fn secrets(&self) -> Secrets {
        self.inside().secrets.clone()
    }

    pub(crate) fn set_waiting(&self, session: SessionId) {
        self.inside().waiting = Some(session);
    }

    pub(crate) fn keep_alone(&self, session: Option<SessionId>) {
        self.inside().kept_alone = session;
    }

    pub(crate) fn kept_alone(&self) -> Option<SessionId> {
        self.inside().kept_alone
    }

    pub(crate) fn set_template(&self, key: Key) {
        self.inside().template = Some(key);
    }

    pub(crate) fn template(&self) -> Option<Key> {
        self.inside().template.clone()
    }

    pub(crate) fn set_left(&self, talk: LeftTalk) {
        self.inside().left = Some(talk);
    }

    pub(crate) fn left(&self) -> Option<LeftTalk> {
        self.inside().left.clone()
    }

    fn diary(&self) -> Option<Diary> {
        self.inside().diary.clone()
    }

    /// Whether its server may have done anything by which the next process is told from the first.
    pub fn is_used(&self) -> bool {
        self.inside().is_used
    }

    pub fn set_used(&self) {
        self.inside().is_used = true;
    }

    /// In use until the visit is dropped.
    pub fn visit(&self) -> Visit {
        self.activity.visit()
    }

    /// How many clients use the VM now.
    pub fn visits(&self) -> u32 {
        self.activity.visits()
    }

    /// How many tool calls it has answered.
    pub fn calls(&self) -> u64 {
        self.activity.calls()
    }

    /// Why the server's last conversation ended, if it was by the server's doing. The VM is well.
    pub fn fault(&self) -> Option<String> {
        self.faults.last()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
