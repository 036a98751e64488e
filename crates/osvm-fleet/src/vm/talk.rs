//! Processes in a VM's guest: the server that made it ready, further servers, other commands.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use osvm_spec::Secrets;
use osvm_wire::message::{Exit, Refusal, SessionId, Spawn};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::{Facts, Vm};
use crate::agent::{Agent, AgentError, Exited, Output, Session, Stdin};
use crate::diary::Diary;
use crate::drivers::chain;
use crate::greeter::{GreetError, Greeter, Greeting, Meeting, Pipes};
use crate::id::random;
use crate::logs::CappedLog;
use crate::state::{Cause, CauseKind};

/// A conversation and the session it is held over.
pub(crate) struct Talk<C> {
    pub(crate) session: SessionId,
    pub(crate) conversation: Arc<C>,
    /// What its process was started with; unknown of one that an earlier daemon started.
    secrets: Option<Secrets>,
}

/// A server process of the caller's own. Its standard error goes to the VM's server log.
pub struct Server {
    pub session: SessionId,
    pub stdin: Stdin,
    pub stdout: Output,
    exit: Ending,
}

/// How a process ended, once it has.
#[derive(Clone)]
pub struct Ending(watch::Receiver<Option<Exit>>);

/// A server process that did not become a conversation.
struct Unfit {
    error: GreetError,
    session: SessionId,
    ending: Ending,
}

/// A conversation that an earlier daemon has had.
#[derive(Debug, Clone)]
pub(crate) struct LeftTalk {
    pub(crate) session: SessionId,
    /// What it takes to go on with it.
    pub(crate) note: String,
}

/// How long a server that hung up may take to die, so that its exit can be told.
const EXIT_REPORT: Duration = Duration::from_secs(2);

impl<C: Send + Sync + 'static> Vm<C> {
    /// The conversation with the server; a new server process, when the last one has ended or was given
    /// other secrets than are brought now.
    pub async fn converse<G>(&self, greeter: &G, limit: Duration) -> Result<Arc<C>, Cause>
    where
        G: Greeter<Conversation = C>,
    {
        let mut current = self.conversation.lock().await;
        if let Some(talk) = current.as_ref().filter(|talk| greeter.is_open(&talk.conversation)) {
            if talk.secrets.as_ref().is_none_or(|secrets| *secrets == self.secrets()) {
                return Ok(Arc::clone(&talk.conversation));
            }
            let outdated = talk.session;
            current.take();
            self.close(outdated).await;
        }
        if current.is_none()
            && let Some(talk) = self.take_left(greeter).await
        {
            return Ok(Arc::clone(&current.insert(talk).conversation));
        }
        let mut met = match self.meet_waiting(greeter, limit).await {
            Some(met) => Ok(met),
            None => self.meet(greeter, Greeting::Usual, limit).await?,
        };
        if met.as_ref().is_err_and(Unfit::may_understand_another) {
            met = self.meet(greeter, Greeting::Other, limit).await?;
        }
        match met {
            Ok((talk, ending)) => {
                self.watch(greeter.ended(&talk.conversation), talk.session, ending);
                Ok(Arc::clone(&current.insert(talk).conversation))
            }
            Err(unfit) => {
                let session = unfit.session;
                let cause = self.explain(unfit).await;
                self.close(session).await;
                Err(cause)
            }
        }
    }

    /// Greets the server that waited in the template, if there is one; where nothing comes of that, it is ended.
    async fn meet_waiting<G>(&self, greeter: &G, limit: Duration) -> Option<(Talk<C>, Ending)>
    where
        G: Greeter<Conversation = C>,
    {
        let session = self.inside().waiting.take()?;
        let met = async {
            let agent = self.agent().ok_or_else(not_running)?;
            let attached = agent.attach(session).await.map_err(|error| agent_cause(&error))?;
            let server = self.tend(attached.session, &self.running_facts()?);
            let given = (server, Secrets::default());
            match self.greet(greeter, given, Greeting::Usual, limit).await? {
                Ok(met) => Ok(met),
                Err(unfit) => Err(self.explain(unfit).await),
            }
        };
        let why: Cause = match met.await {
            Ok(met) => return Some(met),
            Err(cause) => cause,
        };
        if let Some(diary) = self.diary() {
            diary.note(&format!("the server that waited in the template is of no use: {why}"));
        }
        self.close(session).await;
        None
    }

    /// Starts a server process and greets it.
    async fn meet<G>(
        &self,
        greeter: &G,
        greeting: Greeting,
        limit: Duration,
    ) -> Result<Result<(Talk<C>, Ending), Unfit>, Cause>
    where
        G: Greeter<Conversation = C>,
    {
        let secrets = self.secrets();
        let server = self.start_server_with(&secrets).await?;
        self.greet(greeter, (server, secrets), greeting, limit).await
    }

    async fn greet<G>(
        &self,
        greeter: &G,
        (server, secrets): (Server, Secrets),
        greeting: Greeting,
        limit: Duration,
    ) -> Result<Result<(Talk<C>, Ending), Unfit>, Cause>
    where
        G: Greeter<Conversation = C>,
    {
        let (session, ending) = (server.session, server.exit.clone());
        let image = &self.running_facts()?.image;
        let meeting = Meeting { plan: &self.plan, image, greeting, limit };
        Ok(match greeter.greet(server.into_pipes(), meeting).await {
            Ok(conversation) => {
                let (conversation, secrets) = (Arc::new(conversation), Some(secrets));
                Ok((Talk { session, conversation, secrets }, ending))
            }
            Err(error) => Err(Unfit { error, session, ending }),
        })
    }

    /// Once the conversation has ended by the server's doing: notes why, and ends what is left of its
    /// processes. One that broke a limit lives on otherwise, with nobody to listen to it.
    fn watch(
        &self,
        ended: impl Future<Output = Option<String>> + Send + 'static,
        session: SessionId,
        ending: Ending,
    ) {
        let (agent, diary, faults) = (self.agent(), self.diary(), self.faults.clone());
        tokio::spawn(async move {
            let Some(why) = ended.await else { return };
            // Its status and its last words may be on their way.
            let exit = ending.told().await;
            let fault = exit.map_or(why.clone(), |exit| format!("{why}; the server {exit}"));
            if let Some(diary) = diary {
                diary.note(&format!("conversation over: {fault}"));
            }
            faults.note(fault);
            if let Some(agent) = agent {
                let _ = agent.close(session).await;
            }
        });
    }

    /// The conversation, if there is one now; starts nothing.
    pub fn current(&self) -> Option<Arc<C>> {
        let current = self.conversation.try_lock().ok()?;
        current.as_ref().map(|talk| Arc::clone(&talk.conversation))
    }

    /// Starts a server process beside those that run already.
    pub async fn start_server(&self) -> Result<Server, Cause> {
        self.start_server_with(&self.secrets()).await
    }

    async fn start_server_with(&self, secrets: &Secrets) -> Result<Server, Cause> {
        let facts = self.running_facts()?;
        if facts.command.is_empty() {
            let message = format!("image {} names no command to start", facts.image);
            return Err(Cause::new(CauseKind::Request, message).hint("--command \"...\""));
        }
        let spawn = Spawn {
            session: SessionId(random()),
            argv: facts.command.clone(),
            env: with_secrets(&facts.env, secrets),
            cwd: facts.working_dir.clone(),
            user: facts.user.clone(),
            ..Spawn::default()
        };
        Ok(self.tend(self.spawn(spawn).await?, &facts))
    }

    /// Starts any command, as the server's user unless told otherwise.
    pub async fn exec(&self, argv: Vec<String>, user: Option<String>) -> Result<Session, Cause> {
        let facts = self.running_facts()?;
        let session = SessionId(random());
        let user = user.or(facts.user);
        let (env, cwd) = (facts.env, facts.working_dir);
        self.spawn(Spawn { session, argv, env, cwd, user, ..Spawn::default() }).await
    }

    /// Ends what is left of a session's processes. One that has ended already is fine.
    pub async fn close(&self, session: SessionId) {
        let Some(agent) = self.agent() else { return };
        if let Err(error) = agent.close(session).await {
            tracing::debug!(vm = %self.id, %session, error = chain(&error), "close");
        }
    }

    /// Takes the conversation of an earlier daemon over.
    pub(crate) async fn resume<G>(
        &self,
        greeter: &G,
        agent: &Agent,
        left: &LeftTalk,
    ) -> Result<(), Cause>
    where
        G: Greeter<Conversation = C>,
    {
        let talk = self.resumed(greeter, agent, left).await?;
        *self.conversation.lock().await = Some(talk);
        Ok(())
    }

    /// The same, of a VM that has slept since; nothing where it can't be gone on with.
    async fn take_left<G>(&self, greeter: &G) -> Option<Talk<C>>
    where
        G: Greeter<Conversation = C>,
    {
        let agent = self.agent()?;
        let left = self.inside().left.take()?;
        match self.resumed(greeter, &agent, &left).await {
            Ok(talk) => Some(talk),
            Err(cause) => {
                // The VM is well; a new server process takes over.
                tracing::info!(vm = %self.id, %cause, "server process is replaced");
                self.close(left.session).await;
                None
            }
        }
    }

    async fn resumed<G>(
        &self,
        greeter: &G,
        agent: &Agent,
        LeftTalk { session, note }: &LeftTalk,
    ) -> Result<Talk<C>, Cause>
    where
        G: Greeter<Conversation = C>,
    {
        let session = *session;
        let resumed = agent.attach(session).await.map_err(|error| agent_cause(&error))?;
        if !resumed.stdin_at_line_start {
            let message = "a request was cut in the middle";
            return Err(Cause::new(CauseKind::Server, message));
        }
        let server = self.tend(resumed.session, &self.running_facts()?);
        let ending = server.ending();
        let conversation = greeter.resume(server.into_pipes(), note).map_err(|why| {
            Cause::new(CauseKind::Server, format!("can't go on with the server: {why}"))
        })?;
        self.watch(greeter.ended(&conversation), session, ending);
        Ok(Talk { session, conversation: Arc::new(conversation), secrets: None })
    }

    /// What a later daemon must know to go on with the conversation.
    pub(crate) async fn talk_note<G>(&self, greeter: &G) -> Option<LeftTalk>
    where
        G: Greeter<Conversation = C>,
    {
        let current = self.conversation.lock().await;
        match current.as_ref() {
            Some(Talk { session, conversation, .. }) => {
                Some(LeftTalk { session: *session, note: greeter.note(conversation) })
            }
            None => self.left(),
        }
    }

    /// Ends the conversation; its stdin closes with it. One that is just being begun is not waited
    /// for: the server takes as long as it likes, and ends with its VM.
    pub(crate) fn hush(&self) {
        if let Ok(mut current) = self.conversation.try_lock() {
            current.take();
        }
    }

    async fn spawn(&self, spawn: Spawn) -> Result<Session, Cause> {
        let agent = self.agent().ok_or_else(not_running)?;
        agent.spawn(spawn).await.map_err(|error| agent_cause(&error))
    }

    fn running_facts(&self) -> Result<Facts, Cause> {
        self.facts().ok_or_else(not_running)
    }

    /// Sends a server's standard error to the log and waits for its end.
    fn tend(&self, session: Session, facts: &Facts) -> Server {
        let id = session.id();
        let (stdin, stdout, stderr, exited) = session.into_parts();
        tokio::spawn(keep(stderr, server_log(&facts.run_dir)));
        let (tell, told) = watch::channel(None);
        tokio::spawn(report(id, exited, tell, self.diary()));
        Server { session: id, stdin, stdout, exit: Ending(told) }
    }

    /// Why a server did not answer: by its end and its last words, where it has any.
    async fn explain(&self, Unfit { error, ending, .. }: Unfit) -> Cause {
        let (said, timed_out) = match error {
            GreetError::Unanswered { message, timed_out, .. } => (message, timed_out),
            GreetError::Unwelcome(cause) => return cause,
        };
        let exit = ending.told().await;
        let kind = if timed_out { CauseKind::Deadline } else { CauseKind::Server };
        let mut message = match exit {
            Some(exit) => format!("the server {exit} before it answered MCP"),
            None => said,
        };
        if let Some(words) = self.facts().and_then(|facts| last_line(&server_log(&facts.run_dir))) {
            message.push_str(&format!("; its last words: {words}"));
        }
        let name = &self.plan.name;
        Cause::new(kind, message).hint(format!("osvm mcp microvm logs {name} --source server"))
    }
}

impl Unfit {
    fn may_understand_another(&self) -> bool {
        matches!(self.error, GreetError::Unanswered { try_other: true, .. })
    }
}

impl Server {
    /// How the process ends.
    pub fn ending(&self) -> Ending {
        self.exit.clone()
    }

    fn into_pipes(self) -> Pipes {
        Pipes { stdin: Box::new(self.stdin), stdout: Box::new(self.stdout) }
    }
}

impl Ending {
    /// None when it can't be known any more.
    pub async fn wait(mut self) -> Option<Exit> {
        self.0.wait_for(Option::is_some).await.ok().and_then(|exit| *exit)
    }

    /// Of a process that has hung up, whose exit may be on its way. None when it does not come.
    pub async fn told(self) -> Option<Exit> {
        tokio::time::timeout(EXIT_REPORT, self.wait()).await.ok().flatten()
    }
}

/// What a refusal by the guest's agent means for the user.
pub(crate) fn agent_cause(error: &AgentError) -> Cause {
    let AgentError::Refused(refusal) = error else {
        let kind = match error {
            AgentError::TimedOut { .. } => CauseKind::Deadline,
            _ => CauseKind::Machine,
        };
        return Cause::new(kind, format!("failed to {}", chain(error)));
    };
    let cause = Cause::new(CauseKind::Request, refusal.to_string());
    match refusal {
        Refusal::CommandNotFound { .. }
        | Refusal::FileNotFound { .. }
        | Refusal::InterpreterNotFound { .. } => {
            cause.hint("--image with a root file system that holds it, or another --command")
        }
        _ => cause,
    }
}

/// A secret takes the place of a variable of its name.
fn with_secrets(env: &[(String, String)], secrets: &Secrets) -> Vec<(String, String)> {
    let others = env.iter().filter(|(name, _)| !secrets.has(name)).cloned();
    others.chain(secrets.pairs().map(|(name, value)| (name.clone(), value.clone()))).collect()
}

fn not_running() -> Cause {
    Cause::new(CauseKind::Machine, "the VM is not running").hint("osvm mcp microvm status")
}

fn server_log(run_dir: &Path) -> PathBuf {
    run_dir.join("logs").join("server.log")
}

/// Reads to the end even when the log can't be written: a full disk must not stall a server.
async fn keep(mut stderr: Output, path: PathBuf) {
    let mut log = CappedLog::open(&path, CappedLog::CAP).ok();
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        if let Some(log) = log.as_mut() {
            let _ = log.write(&buffer[..count]);
        }
    }
}

async fn report(
    session: SessionId,
    exited: Exited,
    tell: watch::Sender<Option<Exit>>,
    diary: Option<Diary>,
) {
    let Ok(exit) = exited.await else { return };
    if let Some(diary) = diary {
        diary.note(&format!("server process of session {session} {exit}"));
    }
    tell.send_replace(Some(exit));
}

fn last_line(path: &Path) -> Option<String> {
    const TAIL: u64 = 4096;
    let read = || -> io::Result<Vec<u8>> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = std::fs::File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(TAIL);
        file.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        file.take(TAIL).read_to_end(&mut tail)?;
        Ok(tail)
    };
    let tail = String::from_utf8_lossy(&read().ok()?).into_owned();
    let line = tail.lines().rfind(|line| !line.trim().is_empty())?;
    let clean = line.chars().filter(|c| !c.is_control()).take(300);
    Some(clean.collect())
}
