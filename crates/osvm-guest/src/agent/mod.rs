//! Answers the host: one request on each stream, and then what the request asked for.

mod carry;
mod life;
mod pipes;
mod session;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use osvm_wire::grant::Grants;
use osvm_wire::message::{Event, Hello, Prepare, Refusal, Reply, Request, SessionId};
use rustix::process::Signal;
use tokio::sync::broadcast;
use tokio::task::spawn_blocking;

use self::pipes::Pumps;
use self::table::Table;
use crate::console::{chain, say};
use crate::machine::{Machine, stats};
use crate::process::{Cages, Reaper, Root};
use crate::reach::{Host, Reach};
use crate::talk::{StreamError, Talk};

pub use crate::talk::Stream;

/// Most sessions at a time: each may hold three full windows of bytes.
const MAX_SESSIONS: usize = 32;

/// How long a new stream may take to ask.
const ASK_WITHIN: Duration = Duration::from_secs(30);

/// How long processes may take to end by themselves when the VM is switched off.
const GRACE: Duration = Duration::from_secs(1);

/// Events that a slow watcher may lag behind before it loses some.
const EVENTS: usize = 64;

/// Where and how the agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `/proc` of the machine.
    pub proc: PathBuf,
    /// The image's `/etc`, for names of users. Without it processes run as the agent's own user.
    pub etc: Option<PathBuf>,
    /// The root of the control groups (version 2), if there are any.
    pub groups: Option<PathBuf>,
    /// Whether to reap every orphan, as PID 1 must.
    pub as_init: bool,
    /// How long a session lives that nobody attaches.
    pub expire_after: Duration,
}

/// The agent: all sessions of this VM.
pub struct Agent {
    settings: Settings,
    machine: Box<dyn Machine>,
    sessions: Table,
    /// For the next session.
    pumps: Mutex<Option<Pumps>>,
    cages: Cages,
    reaper: Arc<Reaper>,
    events: broadcast::Sender<Event>,
    reach: Reach,
}

impl Agent {
    /// Starts the agent. To be called inside a Tokio runtime.
    ///
    /// Threads and a control group that the first session needs are there before it is asked for, and so they are in
    /// every clone of a machine that was saved.
    pub fn start(settings: Settings, machine: impl Machine) -> io::Result<Arc<Self>> {
        spawn_blocking(|| ());
        Ok(Arc::new(Self {
            sessions: Table::new(MAX_SESSIONS),
            pumps: Mutex::new(Some(Pumps::start()?)),
            cages: Cages::new(settings.groups.clone(), settings.proc.clone()),
            reaper: Reaper::start(settings.as_init)?,
            events: broadcast::Sender::new(EVENTS),
            reach: Reach::default(),
            machine: Box::new(machine),
            settings,
        }))
    }

    /// Where the link says that it is there.
    pub(crate) fn host(&self) -> &Host {
        self.reach.host()
    }

    /// A thread for a session.
    fn pumps(&self) -> io::Result<Pumps> {
        let ready = self.pumps.lock().unwrap_or_else(PoisonError::into_inner).take();
        ready.map_or_else(Pumps::start, Ok)
    }

    /// What a session has taken that was there for the first one is there again.
    fn restock(&self) {
        let mut ready = self.pumps.lock().unwrap_or_else(PoisonError::into_inner);
        *ready = ready.take().or_else(|| Pumps::start().ok());
        drop(ready);
        self.cages.restock();
    }

    /// Serves one stream until it ends.
    pub async fn serve(self: Arc<Self>, stream: impl Stream) {
        if let Err(error) = self.converse(Talk::new(stream)).await
            && !matches!(error, StreamError::Read(_) | StreamError::Write(_))
        {
            say(format_args!("dropped a stream: {}", chain(&error)));
        }
    }

    async fn converse(self: Arc<Self>, mut talk: Talk<impl Stream>) -> Result<(), StreamError> {
        let request = match first_request(&mut talk).await {
            Ok(request) => request,
            Err(why) => return talk.answer(&Reply::Refused(Refusal::Invalid { why })).await,
        };
        match request {
            Request::Spawn(spawn) => self.spawn((spawn, Root::Shared), talk).await,
            Request::Rehearse(spawn) => self.spawn((spawn, Root::Own), talk).await,
            Request::Attach(attach) => self.attach(&attach, talk).await,
            Request::Watch => self.watch(talk).await,
            Request::PowerOff => self.power_off(talk).await,
            other => talk.answer(&self.reply(other).await).await,
        }
    }

    /// Answers what needs an answer and nothing more.
    async fn reply(&self, request: Request) -> Reply {
        let replied = match request {
            Request::Hello => Ok(Reply::Hello(self.hello())),
            Request::Prepare(prepare) => self.prepare_anew(&prepare),
            Request::GoOn(prepare) => self.prepare(&prepare),
            Request::Sessions => Ok(Reply::Sessions(self.sessions.describe())),
            Request::Close(session) => self.close(session).await,
            Request::Signal { session, signal } => self.signal(session, signal),
            Request::Stats => {
                Ok(Reply::Stats(stats::read(&self.settings.proc, self.sessions.len())))
            }
            Request::Grant(grants) => self.grant(grants, Vec::new()).await,
            Request::GrantWithFiles { grants, files } => self.grant(grants, files).await,
            Request::Spawn(_)
            | Request::Rehearse(_)
            | Request::Attach(_)
            | Request::Watch
            | Request::PowerOff => {
                Err(Refusal::Invalid { why: "it needs a stream of its own".into() })
            }
        };
        replied.unwrap_or_else(Reply::Refused)
    }

    fn hello(&self) -> Hello {
        let boot_id = self.settings.proc.join("sys/kernel/random/boot_id");
        Hello {
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            boot_id: std::fs::read_to_string(boot_id).unwrap_or_default().trim().to_owned(),
        }
    }

    /// A machine that was just booted, or goes on as a clone.
    fn prepare_anew(&self, prepare: &Prepare) -> Result<Reply, Refusal> {
        let prepared = self.prepare(prepare)?;
        self.machine.renew_id();
        // Without a session nobody has read the boot id yet. What has waited in a template may have, for all its clones.
        if self.sessions.len() > 0 {
            self.machine.renew_boot_id()?;
        }
        Ok(prepared)
    }

    fn prepare(&self, prepare: &Prepare) -> Result<Reply, Refusal> {
        if prepare.entropy.len() < Prepare::MIN_ENTROPY {
            let why = format!("it has fewer than {} random bytes", Prepare::MIN_ENTROPY);
            return Err(Refusal::Invalid { why });
        }
        self.machine.prepare(prepare).map(|()| Reply::Prepared)
    }

    async fn grant(&self, grants: Grants, files: Vec<u32>) -> Result<Reply, Refusal> {
        self.reach
            .grant((grants, files), self.settings.etc.as_deref())
            .await
            .map(|()| Reply::Granted)
    }

    fn signal(&self, id: SessionId, signal: i32) -> Result<Reply, Refusal> {
        let session = self.sessions.get(id)?;
        let invalid = || Refusal::Invalid { why: format!("there is no signal {signal}") };
        session.signal(Signal::from_named_raw(signal).ok_or_else(invalid)?).map_err(|errno| {
            Refusal::Failed { act: format!("send signal {signal}"), why: errno.to_string() }
        })?;
        Ok(Reply::Signalled)
    }

    async fn watch(self: Arc<Self>, mut talk: Talk<impl Stream>) -> Result<(), StreamError> {
        let mut events = self.events.subscribe();
        talk.outgoing.send(&Reply::Watching).await?;
        let Talk { mut incoming, mut outgoing } = talk;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) => outgoing.send(&event).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                // The host says nothing more on this stream; its end is the end of the watch.
                _ = incoming.receive::<Request>() => return Ok(()),
            }
        }
    }

    async fn power_off(&self, mut talk: Talk<impl Stream>) -> Result<(), StreamError> {
        let told = talk.answer(&Reply::PoweringOff).await;
        // The answer has arrived when the host lets go of the stream.
        let _ = tokio::time::timeout(GRACE, talk.incoming.receive::<Request>()).await;
        say(format_args!("powering off"));
        let sessions = self.sessions.all();
        for session in &sessions {
            // A process that is gone needs no signal.
            let _ = session.signal(Signal::TERM);
        }
        let ended = async {
            for session in &sessions {
                session.wait_for_exit().await;
            }
        };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            sessions.iter().for_each(|session| session.kill());
        }
        if self.reach.tries().is_some() {
            // What processes tried last.
            let _ = tokio::time::timeout(GRACE, self.reach.host().all_told()).await;
        }
        if self.reach.has_folders() {
            // What was written to them is to reach the host. Not from here: this thread carries it there.
            let _ = tokio::time::timeout(GRACE, spawn_blocking(rustix::fs::sync)).await;
        }
        self.machine.power_off();
        told
    }

    fn report(&self, event: Event) {
        // Nobody may be watching.
        let _ = self.events.send(event);
    }
}

/// What the host asks, or why that can't be told.
async fn first_request(talk: &mut Talk<impl Stream>) -> Result<Request, String> {
    match tokio::time::timeout(ASK_WITHIN, talk.incoming.receive()).await {
        Ok(Ok(Some(request))) => Ok(request),
        Ok(Ok(None)) => Err("the stream ended before it".to_owned()),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err("it came too late".to_owned()),
    }
}
