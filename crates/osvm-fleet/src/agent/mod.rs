//! The host's end of the agent protocol: questions to the guest's agent, and sessions whose byte
//! streams survive a hang-up of the link.
//!
//! An [`Agent`] talks over one link at a time. When the link hangs up, whoever watches it gives the
//! agent the next one by [`Agent::relink`]; sessions then attach again by themselves, and neither their
//! reader nor the server process sees a gap or a repetition.

mod dial;
mod exchange;
mod pump;
mod session;
mod shared;
#[cfg(test)]
mod tests;
mod watch;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use osvm_wire::frame::FrameError;
use osvm_wire::grant::Grants;
use osvm_wire::message::{
    Attach, Hello, Prepare, Refusal, Reply, Request, SessionId, SessionInfo, Spawn, Stats,
};
use osvm_wire::session::SessionError;
use thiserror::Error;

use self::dial::Links;
use self::exchange::Exchange;
use crate::drivers::chain;

pub use self::dial::{AgentStream, Dial};
pub use self::session::{Exited, Output, Resumed, Session, SessionLost, Stdin};
pub use self::watch::Events;

/// How long the agent may take over an answer. Generous, because an emulated guest on a busy machine is
/// slow; a dead one is found out by its link.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// The agent of one VM. Clones talk to the same agent.
#[derive(Debug, Clone)]
pub struct Agent {
    links: Links,
    /// Sessions that somebody has closed while the guest slept.
    left: Arc<Mutex<Vec<SessionId>>>,
}

/// Why the agent did not answer as hoped.
#[derive(Debug, Error)]
pub enum AgentError {
    /// The guest is well and says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("connect to the guest's agent")]
    Connect(#[source] io::Error),
    /// The link is well, and full.
    #[error("open one more stream to the guest's agent")]
    Full(#[source] io::Error),
    #[error("talk to the guest's agent")]
    Talk(#[source] io::Error),
    #[error("hear from the guest's agent: it hung up before it answered")]
    HungUp,
    #[error("read what the guest's agent sent")]
    Frame(#[from] FrameError),
    #[error("follow the session")]
    Session(#[from] SessionError),
    #[error("ask the guest's agent: it answered another question than {0}")]
    OtherAnswer(&'static str),
    #[error("ask the guest's agent: no answer to {question} within {} s", .after.as_secs())]
    TimedOut { question: &'static str, after: Duration },
    /// Its link holds, and its streams do not.
    #[error("follow the session: the guest's agent hangs up on it again and again")]
    HangsUp,
    #[error("reach the guest: its VM has ended")]
    Gone,
    #[error("wake the guest: {0}")]
    Sleeps(Arc<str>),
}

impl AgentError {
    /// Whether the link failed rather than the guest: over the next link the same may succeed.
    pub fn is_hang_up(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::Talk(_) | Self::HungUp)
    }

    /// Whether an agent would never do this: somebody in the guest has taken its place.
    fn is_lie(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::Session(_) | Self::OtherAnswer(_) | Self::HangsUp)
    }
}

impl Agent {
    /// An agent that is reached over `link`.
    pub fn new(link: impl Dial) -> Self {
        Self { links: Links::new(link), left: Arc::default() }
    }

    /// The agent of a guest that sleeps.
    pub(crate) fn asleep() -> Self {
        Self { links: Links::asleep(), left: Arc::default() }
    }

    /// Asks nothing more of the guest until it is woken by [`Self::relink`]; [`Self::wanted`] tells when that is due.
    pub fn sleep(&self) {
        self.links.sleep();
    }

    pub fn is_asleep(&self) -> bool {
        self.links.is_asleep()
    }

    /// Waits until somebody wants something of the guest that sleeps.
    pub async fn wanted(&self) {
        self.links.wanted().await;
    }

    /// Has the guest woken, if it sleeps, and waits for that.
    pub async fn wake(&self) -> Result<(), AgentError> {
        self.links.current().await.map(drop)
    }

    /// It can't be woken now, and those who wait for it are told why. Sessions go on waiting.
    pub fn put_off(&self, why: &str) {
        self.links.put_off(why);
    }

    /// Closes what was closed while the guest slept.
    pub async fn close_left(&self) {
        let left = std::mem::take(&mut *self.left());
        for session in left {
            if let Err(error) = self.close(session).await {
                tracing::debug!(%session, error = chain(&error), "close");
            }
        }
    }

    fn left(&self) -> MutexGuard<'_, Vec<SessionId>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on over a new link; sessions of the old one attach again.
    pub fn relink(&self, link: impl Dial) {
        self.links.replace(link);
    }

    /// Waits until the guest has broken the agent's protocol, which the agent never does; says how.
    pub async fn distrusted(&self) -> Arc<str> {
        self.links.distrusted().await
    }

    /// The VM is gone: every session ends with [`SessionLost`].
    pub fn give_up(&self) {
        self.links.give_up();
    }

    pub async fn hello(&self) -> Result<Hello, AgentError> {
        match self.ask("hello", Request::Hello).await? {
            Reply::Hello(hello) => Ok(hello),
            _ => self.other("hello"),
        }
    }

    /// Sets clock, random pool and host name, and has the machine be another one. To be called after each boot, and
    /// each restore from a template.
    pub async fn prepare(&self, prepare: Prepare) -> Result<(), AgentError> {
        self.prepared(Request::Prepare(prepare)).await
    }

    /// The same for a machine that was suspended, and stays the one that it is.
    pub async fn go_on(&self, prepare: Prepare) -> Result<(), AgentError> {
        self.prepared(Request::GoOn(prepare)).await
    }

    async fn prepared(&self, request: Request) -> Result<(), AgentError> {
        match self.ask("prepare", request).await? {
            Reply::Prepared => Ok(()),
            _ => self.other("prepare"),
        }
    }

    /// Makes hosts and folders reachable; the folders with the numbers `files` are files. To be called after
    /// [`Self::prepare`] and before any session.
    pub async fn grant(&self, grants: Grants, files: Vec<u32>) -> Result<(), AgentError> {
        let request = match files.is_empty() {
            true => Request::Grant(grants),
            false => Request::GrantWithFiles { grants, files },
        };
        match self.ask("grant", request).await? {
            Reply::Granted => Ok(()),
            _ => self.other("grant"),
        }
    }

    /// Starts a process. If the link hangs up on the way, it is looked for, or started, over the next one.
    pub async fn spawn(&self, spawn: Spawn) -> Result<Session, AgentError> {
        self.started(spawn.session, Request::Spawn(spawn)).await
    }

    /// The same, of one that writes to files of its own, which go with it.
    pub async fn rehearse(&self, spawn: Spawn) -> Result<Session, AgentError> {
        self.started(spawn.session, Request::Rehearse(spawn)).await
    }

    async fn started(&self, session: SessionId, request: Request) -> Result<Session, AgentError> {
        match self.open_over_links("spawn", &request).await {
            Ok((Reply::Spawned { .. }, exchange)) => {
                Ok(Session::spawned(session, exchange, self.links.follow()))
            }
            Ok(_) => self.other("spawn"),
            Err(AgentError::Refused(Refusal::SessionExists(_))) => {
                self.attach(session).await.map(|resumed| resumed.session)
            }
            Err(error) => Err(error),
        }
    }

    /// Starts a process, and leaves it to whoever attaches its session: nothing of what it says is taken.
    pub async fn begin(&self, spawn: Spawn) -> Result<(), AgentError> {
        match self.ask("spawn", Request::Spawn(spawn)).await? {
            Reply::Spawned { .. } => Ok(()),
            _ => self.other("spawn"),
        }
    }

    /// Takes over a session of which only the id is known, from its last acknowledged byte on.
    pub async fn attach(&self, session: SessionId) -> Result<Resumed, AgentError> {
        let attach = Attach { session, received: None };
        match self.open_over_links("attach", &Request::Attach(attach)).await? {
            (Reply::Attached(attached), exchange) => {
                osvm_wire::session::check(&attached).inspect_err(|error| {
                    self.links.distrust(&error.to_string());
                })?;
                Ok(Session::attached(session, &attached, exchange, self.links.follow()))
            }
            _ => self.other("attach"),
        }
    }

    pub async fn sessions(&self) -> Result<Vec<SessionInfo>, AgentError> {
        match self.ask("sessions", Request::Sessions).await? {
            Reply::Sessions(sessions) => Ok(sessions),
            _ => self.other("sessions"),
        }
    }

    /// Kills what is left of a session's processes and makes the guest forget it; a guest that sleeps, when it is woken.
    pub async fn close(&self, session: SessionId) -> Result<(), AgentError> {
        if self.links.is_asleep() {
            self.left().push(session);
            return Ok(());
        }
        match self.ask("close", Request::Close(session)).await? {
            Reply::Closed => Ok(()),
            _ => self.other("close"),
        }
    }

    /// Sends a signal to a session's process group.
    pub async fn signal(&self, session: SessionId, signal: i32) -> Result<(), AgentError> {
        match self.ask("signal", Request::Signal { session, signal }).await? {
            Reply::Signalled => Ok(()),
            _ => self.other("signal"),
        }
    }

    pub async fn stats(&self) -> Result<Stats, AgentError> {
        match self.ask("stats", Request::Stats).await? {
            Reply::Stats(stats) => Ok(stats),
            _ => self.other("stats"),
        }
    }

    /// What happens in the guest from now on. Ends with the link.
    pub async fn watch(&self) -> Result<Events, AgentError> {
        match self.open("watch", &Request::Watch).await? {
            (Reply::Watching, exchange) => Ok(Events::new(exchange)),
            _ => self.other("watch"),
        }
    }

    /// Asks the guest to end its processes, unmount and power off. Wait for the VMM's exit afterwards.
    pub async fn power_off(&self) -> Result<(), AgentError> {
        match self.ask("power off", Request::PowerOff).await? {
            Reply::PoweringOff => Ok(()),
            _ => self.other("power off"),
        }
    }

    async fn ask(&self, question: &'static str, request: Request) -> Result<Reply, AgentError> {
        self.open(question, &request).await.map(|(reply, _)| reply)
    }

    /// An answer to a question that was not asked.
    fn other<T>(&self, question: &'static str) -> Result<T, AgentError> {
        let error = AgentError::OtherAnswer(question);
        self.links.distrust(&chain(&error));
        Err(error)
    }

    /// Asks over one link after the other until one holds.
    async fn open_over_links(
        &self,
        question: &'static str,
        request: &Request,
    ) -> Result<(Reply, Exchange), AgentError> {
        let mut links = self.links.follow();
        loop {
            match self.open(question, request).await {
                Err(error) if error.is_hang_up() => {
                    let next = tokio::time::timeout(ANSWER_DEADLINE, links.changed()).await;
                    next.map_err(|_| error)??;
                }
                other => return other,
            }
        }
    }

    /// Asks over a new stream, and keeps the stream for what follows the answer.
    async fn open(
        &self,
        question: &'static str,
        request: &Request,
    ) -> Result<(Reply, Exchange), AgentError> {
        let link = self.links.current().await?;
        let answer = exchange::ask(link.as_ref(), request);
        let timed_out = |_| AgentError::TimedOut { question, after: ANSWER_DEADLINE };
        let answer = tokio::time::timeout(ANSWER_DEADLINE, answer).await.map_err(timed_out)?;
        answer.inspect_err(|error| {
            if error.is_lie() {
                self.links.distrust(&chain(error));
            }
        })
    }
}
