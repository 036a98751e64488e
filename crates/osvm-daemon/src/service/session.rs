//! One client's conversation with a server of its own: lines pass as they are, or as a bridge between two eras has them.
//! A server is started when it is asked for something that its manifest does not have. One that is gone is answered for at
//! once, and started anew as soon as the client asks again.
//!
//! ```text
//! client ──> converse ──> Between ──> Seat ──> server
//! client <─────────────── Between <─ listen <── server
//! ```

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use osvm_fleet::agent::Stdin;
use osvm_fleet::{Server, Vm};
use osvm_mcp::lines::LineReader;
use osvm_mcp::{Era, Fate, Introduction, Limits, Manifest};
use osvm_spec::ServerName;
use osvm_wire::message::SessionId;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf, split};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::io::InspectReader;

use super::Daemon;
use super::between::{Between, Whom};
use super::guarded::Stream;
use super::guest::{Guest, Need};
use super::manifests::Kept;
use super::place::Place;
use crate::api::{ApiError, RunRequest};

/// How long a server whose input has ended may take to finish its output.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How long a server may take to read a line, once it has been sent more than its pipes hold.
const READS_WITHIN: Duration = Duration::from_secs(5 * 60);

const ENDED: &str = "the server ended before it could be asked";

/// Which server a client wants, as often as it is lost.
pub(super) struct Wanted {
    daemon: Arc<Daemon>,
    name: ServerName,
    request: RunRequest,
    place: Place,
    /// What is known without one.
    manifest: Manifest,
}

/// A server process of the client's own, in a VM that is in use.
pub(super) struct Opened {
    guest: Guest,
    server: Server,
    /// Where what it says of itself is kept.
    manifest: Option<Kept>,
}

impl Wanted {
    /// An error says why no server can be started. Reads files.
    pub(super) fn new(
        daemon: Arc<Daemon>,
        name: ServerName,
        request: RunRequest,
        place: Place,
    ) -> Result<Self, ApiError> {
        let manifest = daemon.manifest(&daemon.glance()?, &name, &request)?;
        let manifest = manifest.map(|kept| kept.read()).unwrap_or_default();
        Ok(Self { daemon, name, request, place, manifest })
    }

    /// Whether some of what a client may ask can be answered without a server.
    pub(super) fn is_known(&self) -> bool {
        !self.manifest.is_empty()
    }

    /// Which of the gateway's its client has shown; empty for none.
    fn token(&self) -> &str {
        self.request.on_behalf.as_ref().map(osvm_mcp::OnBehalf::holder).unwrap_or_default()
    }

    pub(super) async fn open(&self) -> Result<Opened, ApiError> {
        let RunRequest { overrides, secrets, .. } = &self.request;
        let (guest, _) =
            self.daemon.guest(&self.name, overrides, secrets.clone(), Need::Anything).await?;
        let secrets = guest.vm.secrets();
        let server = guest.vm.start_server().await?;
        self.place.is_in(&guest);
        // Another client may have brought others meanwhile: nobody knows which it was started with.
        let is_plain = guest.vm.secrets().pairs().eq(secrets.pairs());
        let manifest = self.daemon.manifest_of(&guest.vm, self.request.on_behalf.as_ref());
        Ok(Opened { guest, server, manifest: manifest.filter(|_| is_plain) })
    }

    /// As what the server is met in a conversation that is another than the client's: in the client's era where it speaks
    /// that. And whether it would be met so again, which is not so where that could not be found out.
    async fn introduced(
        &self,
        era: Era,
        vm: &Vm<osvm_mcp::Client>,
    ) -> Option<(Introduction, bool)> {
        let greeter = &self.daemon.greeter;
        let met = match vm.current() {
            Some(met) => met,
            None => vm.converse(greeter, vm.plan.start_timeout).await.ok()?,
        };
        let met = Introduction::of(met.server())?;
        match (era, met.era) {
            (Era::Modern, Era::Legacy) => match self.daemon.eras.modern(vm).await {
                Ok(Some(modern)) => Some((Introduction::of(&modern)?, true)),
                Ok(None) => Some((met, true)),
                Err(()) => Some((met, false)),
            },
            _ => Some((met, true)),
        }
    }
}

/// Until the client has gone.
pub(super) async fn converse(wanted: Wanted, first: Option<Opened>, stream: Stream) {
    let (from_client, to_client) = split(stream);
    let limits = Limits::default();
    let longest = limits.line_bytes;
    let client = Arc::new(Client {
        output: AsyncMutex::new(to_client),
        between: Mutex::new(Between::new(wanted.manifest.clone())),
        has_begun: AtomicBool::new(false),
        greeted: Notify::new(),
        provoked: Notify::new(),
        written: Notify::new(),
        limits,
    });
    let mut lines = LineReader::new(from_client, longest);
    let mut seat = first.map(|first| Seat::take(&wanted, first, &client));
    // Once the client says no more: until when what it has said may take to be passed on.
    let mut last: Option<Instant> = None;
    while last.is_none_or(|last| client.between().is_unsaid() && Instant::now() < last) {
        if let Some(seat) = seat.as_ref().filter(|_| client.between().is_still()) {
            seat.guest.visit.rest();
        }
        let expires = client.between().expires();
        tokio::select! {
            line = lines.next(), if last.is_none() => match line {
                Ok(Some(line)) => {
                    let settled = settle(&wanted, &client, &mut seat, line.bytes).await;
                    client.between().of_client(line);
                    if let Err(why) = settled {
                        client.refuse(&why).await;
                    }
                }
                _ => last = Some(Instant::now() + LAST_WORDS),
            },
            () = at(last.map(Instant::into_std)) => break,
            () = client.provoked.notified() => {}
            () = at(expires) => client.between().expire(),
            // Its VM is in use no more.
            () = over(&mut seat) => {
                leave(seat.take()).await;
                // What was asked while it ended.
                client.lose(ENDED).await;
                continue;
            }
        }
        // A client that is gone is found to be by its input.
        let _ = client.tell().await;
        // No more than is there now: a server that provokes without an end keeps nobody from the client.
        let waiting = client.between().waiting();
        for line in (0..waiting).map_while(|_| client.next_for_server()) {
            pass(&wanted, &client, &mut seat, &line).await;
        }
    }
    leave(seat).await;
}

/// Settles how client and server understand each other, as soon as the client's line tells.
async fn settle(
    wanted: &Wanted,
    client: &Arc<Client>,
    seat: &mut Option<Seat>,
    line: &[u8],
) -> Result<(), String> {
    let Some(era) = client.between().begins(line) else { return Ok(()) };
    let known = client.between().discovery.introduction(era).cloned();
    if let Some(server) = known {
        client.between().settle(era, Some(&server), wanted.token());
        return Ok(());
    }
    let seat = match seat {
        Some(seat) => seat,
        None => {
            let opened = wanted.open().await.map_err(|error| error.message)?;
            seat.insert(Seat::take(wanted, opened, client))
        }
    };
    let met = wanted.introduced(era, &seat.guest.vm).await;
    let mut between = client.between();
    between.settle(era, met.as_ref().map(|(server, _)| server), wanted.token());
    if let Some((server, true)) = met {
        between.discovery.introduced(era, server);
    }
    Ok(())
}

/// Has the server hear a line, if it is there, or another if the line asks for one.
async fn pass(wanted: &Wanted, client: &Arc<Client>, seat: &mut Option<Seat>, line: &[u8]) {
    // Before the line is noted: what a server leaves open that ends later is answered where it ends.
    let present = seat.as_mut().filter(|seat| !seat.is_over());
    let mut fate = client.between().passes(line);
    if fate == Fate::Passes && client.waits_for(line) {
        fate = Fate::Asks;
    }
    match (fate, present) {
        (Fate::Dropped, _) | (Fate::Passes, None) => {}
        (_, Some(seat)) => seat.hear(line, client).await,
        (Fate::Asks, None) => {
            leave(seat.take()).await;
            if client.between().recall(line) {
                // The bridge may have more to say to the server then.
                client.provoked.notify_one();
                let _ = client.tell().await;
                return;
            }
            match Seat::again(wanted, client).await {
                Ok(new) => seat.insert(new).hear(line, client).await,
                Err(why) => client.lose(&why).await,
            }
        }
    }
}

/// Never, if at no time.
async fn at(time: Option<std::time::Instant>) {
    match time {
        Some(time) => sleep_until(Instant::from_std(time)).await,
        None => std::future::pending().await,
    }
}

/// The client's end, which each server in turn speaks to.
struct Client {
    output: AsyncMutex<WriteHalf<Stream>>,
    between: Mutex<Between>,
    /// There was a server.
    has_begun: AtomicBool,
    /// A new server has answered the handshake.
    greeted: Notify,
    /// What the server has said is to be answered, or to be waited for, or nothing more is.
    provoked: Notify,
    /// A line was written to the server.
    written: Notify,
    limits: Limits,
}

impl Client {
    fn between(&self) -> MutexGuard<'_, Between> {
        self.between.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_for_server(&self) -> Option<Vec<u8>> {
        let line = self.between().for_server();
        self.written.notify_one();
        line
    }

    /// Answers what is open, since no server will.
    async fn lose(&self, why: &str) {
        self.between().lost(why);
        // A client that is gone needs none.
        let _ = self.tell().await;
    }

    /// Answers what is open, since the server that is there can't be asked now.
    async fn put_off(&self, why: &str) {
        self.between().put_off(why);
        let _ = self.tell().await;
    }

    /// Keeps what the server has said of itself.
    async fn learn(&self, manifest: Option<&Kept>) {
        let news = self.between().discovery.take_news();
        if let Some(manifest) = manifest.filter(|_| !news.is_empty()) {
            let manifest = manifest.clone();
            let _ = tokio::task::spawn_blocking(move || manifest.add(news)).await;
        }
    }

    /// Whether a line that is no request is for a server that was not there yet, which would have heard it.
    fn waits_for(&self, line: &[u8]) -> bool {
        !self.has_begun.load(Ordering::Relaxed) && self.between().discovery.needs_server(line)
    }

    /// Answers what the client has said, since there is no server for it.
    async fn refuse(&self, why: &str) {
        while let Some(line) = self.next_for_server() {
            self.between().passes(&line);
        }
        self.lose(why).await;
    }

    /// Writes what is there for the client, in the order in which it came to be there.
    async fn tell(&self) -> io::Result<()> {
        let mut output = self.output.lock().await;
        let lines = self.between().for_client();
        for line in lines {
            write(&mut *output, &line).await?;
        }
        Ok(())
    }

    /// Passes on what a server says until it has no more to say.
    async fn listen(
        &self,
        output: impl AsyncRead + Unpin,
        manifest: Option<&Kept>,
    ) -> Option<String> {
        let mut lines = LineReader::new(output, self.limits.line_bytes);
        loop {
            let line = match lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => return None,
                Err(error) => return Some(error.to_string()),
            };
            let said = self.between().of_server(line);
            match said {
                Whom::Greeting => self.greeted.notify_one(),
                Whom::Client if self.between().is_bridged() || self.between().is_still() => {
                    self.provoked.notify_one();
                }
                Whom::Client | Whom::Daemon => {}
            }
            if self.tell().await.is_err() {
                return None;
            }
            self.learn(manifest).await;
            while self.between().is_full() {
                self.written.notified().await;
            }
        }
    }
}

/// Where the client's server is.
struct Seat {
    guest: Guest,
    session: SessionId,
    stdin: Stdin,
    /// Ends with the server's output, once what was open is answered.
    speaking: JoinHandle<()>,
}

impl Seat {
    fn take(wanted: &Wanted, opened: Opened, client: &Arc<Client>) -> Self {
        let Opened { guest, server, manifest } = opened;
        client.has_begun.store(true, Ordering::Relaxed);
        client.between().discovery.begins(guest.vm.is_used());
        let hear = wanted.daemon.recordings.listener(&guest.vm.plan.name);
        let (session, ending) = (server.session, server.ending());
        let Server { stdin, stdout, .. } = server;
        let (client, name) = (Arc::clone(client), wanted.name.clone());
        let speaking = tokio::spawn(async move {
            let manifest = manifest.as_ref();
            let fault = match hear {
                None => client.listen(stdout, manifest).await,
                Some(hear) => client.listen(InspectReader::new(stdout, hear), manifest).await,
            };
            let what = match (fault, ending.told().await) {
                (Some(fault), _) => format!("the server is not listened to any more: {fault}"),
                (None, Some(exit)) => format!("the server {exit}"),
                (None, None) => "the server is gone, and maybe its VM".to_owned(),
            };
            client.lose(&format!("{what} (osvm mcp microvm logs {name} --source server)")).await;
        });
        Self { guest, session, stdin, speaking }
    }

    /// A new server that was told what the client and the one before have said to each other first.
    async fn again(wanted: &Wanted, client: &Arc<Client>) -> Result<Self, String> {
        let opened = wanted.open().await.map_err(|error| error.message)?;
        let mut seat = Self::take(wanted, opened, client);
        match seat.catch_up(client).await {
            Ok(()) => Ok(seat),
            Err(why) => {
                let why = format!("the server was started anew, and {why}");
                // Before its end is seen, which would be taken for the reason.
                client.lose(&why).await;
                leave(Some(seat)).await;
                Err(why)
            }
        }
    }

    async fn catch_up(&mut self, client: &Client) -> Result<(), String> {
        let hello = client.between().replay();
        if let Some(hello) = hello {
            let limit = self.guest.vm.plan.start_timeout;
            let greeted = timeout(limit, self.greet(hello, client)).await;
            greeted.map_err(|_| format!("it did not answer within {} s", limit.as_secs()))??;
        }
        self.check(client).await
    }

    async fn greet(&mut self, hello: Vec<u8>, client: &Client) -> Result<(), String> {
        let ended = || "it ended before it had answered".to_owned();
        write(&mut self.stdin, &hello).await.map_err(|_| ended())?;
        tokio::select! {
            () = client.greeted.notified() => {}
            _ = &mut self.speaking => return Err(ended()),
        }
        let ready = client.between().initialized()?;
        write(&mut self.stdin, &ready).await.map_err(|_| ended())
    }

    /// Asks a new server what its client has been told without it.
    async fn check(&mut self, client: &Client) -> Result<(), String> {
        let checks = client.between().discovery.checks().concat();
        match timeout(READS_WITHIN, write(&mut self.stdin, &checks)).await {
            // One that ends meanwhile is found to have ended by what it is sent next.
            Ok(_) => Ok(()),
            Err(_) => Err("it does not read what it is sent".to_owned()),
        }
    }

    fn is_over(&self) -> bool {
        self.speaking.is_finished()
    }

    /// Has the server hear a line. Whatever becomes of it, the client is answered.
    async fn hear(&mut self, line: &[u8], client: &Client) {
        self.guest.visit.work();
        // One that sleeps on for want of memory would leave the line unread for as long.
        if self.guest.vm.is_asleep()
            && let Err(cause) = self.guest.vm.ready().await
        {
            return client.put_off(&cause.message).await;
        }
        let is_used = {
            let discovery = &mut client.between().discovery;
            discovery.asked(line.strip_suffix(b"\n").unwrap_or(line));
            discovery.is_used()
        };
        if is_used {
            self.guest.vm.set_used();
        }
        let wrote = tokio::select! {
            wrote = timeout(READS_WITHIN, write(&mut self.stdin, line)) => wrote,
            _ = &mut self.speaking => return client.lose(ENDED).await,
        };
        match wrote {
            Ok(Ok(())) if !self.is_over() => {}
            Ok(_) => {
                // One that does not read any more has ended, or is about to.
                if !self.is_over() && timeout(LAST_WORDS, &mut self.speaking).await.is_err() {
                    self.speaking.abort();
                }
                client.lose(ENDED).await;
            }
            Err(_) => {
                self.speaking.abort();
                client.lose("the server does not read what it is sent").await;
            }
        }
    }
}

/// Waits for the end of the server that is there, which is told once.
async fn over(seat: &mut Option<Seat>) {
    match seat {
        Some(seat) if seat.is_over() => {}
        Some(seat) => drop((&mut seat.speaking).await),
        None => std::future::pending().await,
    }
}

/// Has the server end that is there, which may have some last words.
async fn leave(seat: Option<Seat>) {
    let Some(Seat { guest, session, mut stdin, mut speaking }) = seat else { return };
    let _ = stdin.shutdown().await;
    // It has none while it sleeps, and ends when it is woken.
    let limit = if guest.vm.is_asleep() { Duration::ZERO } else { LAST_WORDS };
    if !speaking.is_finished() && timeout(limit, &mut speaking).await.is_err() {
        speaking.abort();
    }
    guest.vm.close(session).await;
}

async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}
