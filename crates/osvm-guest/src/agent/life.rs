//! The life of a session, from its request to the moment it is forgotten.
//!
//! ```text
//!            Spawn              hang-up, or Attach elsewhere
//!    (none) ───────> attached ─────────────────────────────> detached ──┐ nobody attaches
//!                      │  ▲                Attach                │       │ for a long time
//!                      │  └──────────────────────────────────────┘       │
//!        Done or Close └──────────────────> (none) <─────────────────────┘
//! ```

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use osvm_wire::message::{Attach, Event, Refusal, Reply, SessionId, Spawn};
use tokio::task::spawn_blocking;

use super::session::{self, Session};
use super::{Agent, GRACE, carry};
use crate::console::say;
use crate::process::{self, Root};
use crate::talk::{Stream, StreamError, Talk};

/// How often it is looked whether processes that were killed have gone.
const SOON: Duration = Duration::from_millis(2);

impl Agent {
    pub(super) async fn spawn(
        self: Arc<Self>,
        what: (Spawn, Root),
        mut talk: Talk<impl Stream>,
    ) -> Result<(), StreamError> {
        match self.begin(what).await {
            Ok(session) => {
                let pid = session.pid();
                let attachment = session.attach();
                self.carry(&session, attachment, talk, Reply::Spawned { pid }).await
            }
            Err(refusal) => talk.answer(&Reply::Refused(refusal)).await,
        }
    }

    /// Starts a process and everything that belongs to its session. Nobody can see half a session: nothing waits
    /// after the process was started.
    async fn begin(
        self: &Arc<Self>,
        (spawn, root): (Spawn, Root),
    ) -> Result<Arc<Session>, Refusal> {
        if root == Root::Own && self.settings.groups.is_none() {
            let why = "without control groups, what it starts could outlive it".to_owned();
            return Err(Refusal::Failed { act: "rehearse".to_owned(), why });
        }
        let place = self.sessions.keep_place(spawn.session)?;
        let pumps = self.pumps().map_err(|error| not_started(&error))?;
        let agent = Arc::clone(self);
        // The program may lie in a folder whose messages this thread carries, so another one waits for it.
        let started =
            spawn_blocking(move || agent.start_process(&spawn, root).map(|it| (it, spawn)));
        let ((started, ended), spawn) = started.await.map_err(|error| not_started(&error))??;
        let session = Arc::new(Session::new(&spawn, started.pid, started.cage));
        place.take(Arc::clone(&session));
        self.report(Event::Started { session: spawn.session, pid: session.pid() });
        pumps.take(&session, started.pipes);
        tokio::spawn(Arc::clone(self).attend(Arc::clone(&session), root, ended));
        Ok(session)
    }

    fn start_process(
        &self,
        spawn: &Spawn,
        root: Root,
    ) -> Result<(process::Started, process::Ended), Refusal> {
        let (etc, offered) = (self.settings.etc.as_deref(), self.reach.environment());
        let tries = self.reach.tries();
        let start = || {
            let mut started = process::start(spawn, etc, offered, &self.cages, tries.is_some())?;
            if let (Some(tries), Some(watched)) = (tries, started.watched.take()) {
                tries.listen(watched);
                tries.named_by(&spawn.argv);
            }
            Ok(started)
        };
        self.reaper.start_one(|| root.with(start))
    }

    /// Waits for the process's end, takes its descendants with it, and keeps the exit for the host.
    async fn attend(self: Arc<Self>, session: Arc<Session>, root: Root, ended: process::Ended) {
        let Ok(outcome) = ended.await else { return };
        let exit = session.exited(outcome);
        self.cages.dissolve(session.cage());
        if root == Root::Own {
            // The machine may be saved now, and its clones' first sessions are yet to come.
            self.restock();
        }
        self.report(Event::Exited { session: session.id(), exit });
        if exit.oom_killed {
            say(format_args!("session {}: {} {exit}", session.id(), session.command()));
        }
    }

    pub(super) async fn attach(
        self: Arc<Self>,
        attach: &Attach,
        mut talk: Talk<impl Stream>,
    ) -> Result<(), StreamError> {
        let found = self.sessions.get(attach.session);
        match found.and_then(|session| Ok((session.reattach(attach.received)?, session))) {
            Ok(((attachment, attached), session)) => {
                self.carry(&session, attachment, talk, Reply::Attached(attached)).await
            }
            Err(refusal) => talk.answer(&Reply::Refused(refusal)).await,
        }
    }

    /// Answers, and carries the session's bytes as long as the stream and the attachment last.
    async fn carry(
        self: Arc<Self>,
        session: &Arc<Session>,
        attachment: session::Attachment,
        mut talk: Talk<impl Stream>,
        reply: Reply,
    ) -> Result<(), StreamError> {
        let answered = talk.outgoing.send(&reply).await;
        let carried = match answered {
            Ok(()) => carry::carry(session, &attachment, talk).await,
            Err(error) => Err(error),
        };
        match session.detach(&attachment) {
            session::Left::Done => {
                session.kill();
                self.sessions.remove(session.id());
            }
            session::Left::Waiting => {
                tokio::spawn(self.expire(Arc::clone(session), attachment));
            }
            session::Left::Replaced => {}
        }
        carried
    }

    /// Ends a session that nobody attached for a long time.
    async fn expire(self: Arc<Self>, session: Arc<Session>, last: session::Attachment) {
        tokio::time::sleep(self.settings.expire_after).await;
        if session.is_attached_by(&last) && self.close(session.id()).await.is_ok() {
            say(format_args!("session {} expired", session.id()));
            self.report(Event::Expired { session: session.id() });
        }
    }

    pub(super) async fn close(&self, id: SessionId) -> Result<Reply, Refusal> {
        let session = self.sessions.get(id)?;
        session.kill();
        session.wait_for_exit().await;
        let left = async {
            while !session.cage().is_empty() {
                tokio::time::sleep(SOON).await;
            }
        };
        let _ = tokio::time::timeout(GRACE, left).await;
        session.finish();
        self.sessions.remove(id);
        Ok(Reply::Closed)
    }
}

fn not_started(error: &impl Display) -> Refusal {
    Refusal::Failed { act: "start a process".to_owned(), why: error.to_string() }
}
