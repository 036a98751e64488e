//! The life of a session, from its request to the moment it is forgotten.
//!
//! ```text
//!            Spawn              hang-up, or Attach elsewhere
//!    (none) ───────> attached ─────────────────────────────> detached ──┐ nobody attaches
//!                      │  ▲                Attach                │       │ for a long time
//!                      │  └──────────────────────────────────────┘       │
//!        Done or Close └──────────────────> (none) <─────────────────────┘
//! ```

use std::sync::Arc;

use osvm_wire::message::{Attach, Event, Refusal, Reply, SessionId, Spawn};

use super::session::{self, Session};
use super::{Agent, carry, pipes};
use crate::console::say;
use crate::process;
use crate::talk::{Stream, StreamError, Talk};

impl Agent {
    pub(super) async fn spawn(
        self: Arc<Self>,
        spawn: &Spawn,
        mut talk: Talk<impl Stream>,
    ) -> Result<(), StreamError> {
        match self.begin(spawn) {
            Ok(session) => {
                let pid = session.pid();
                let attachment = session.attach();
                self.carry(&session, attachment, talk, Reply::Spawned { pid }).await
            }
            Err(refusal) => talk.answer(&Reply::Refused(refusal)).await,
        }
    }

    /// Starts a process and everything that belongs to its session. Nothing in here waits, so nobody can
    /// see half a session.
    fn begin(self: &Arc<Self>, spawn: &Spawn) -> Result<Arc<Session>, Refusal> {
        self.sessions.check_room_for(spawn.session)?;
        let started = process::start(spawn, self.settings.etc.as_deref(), &self.cages)?;
        let ended = self.reaper.expect(started.pid);
        let session = Arc::new(Session::new(spawn, started.pid, started.cage));
        self.sessions.insert(Arc::clone(&session));
        self.report(Event::Started { session: spawn.session, pid: session.pid() });
        pipes::start(&session, started.stdin, started.stdout, started.stderr);
        tokio::spawn(Arc::clone(self).attend(Arc::clone(&session), ended));
        Ok(session)
    }

    /// Waits for the process's end, takes its descendants with it, and keeps the exit for the host.
    async fn attend(self: Arc<Self>, session: Arc<Session>, ended: process::Ended) {
        let Ok(outcome) = ended.await else { return };
        let exit = session.exited(outcome);
        self.cages.dissolve(session.cage());
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
        session.finish();
        self.sessions.remove(id);
        Ok(Reply::Closed)
    }
}
