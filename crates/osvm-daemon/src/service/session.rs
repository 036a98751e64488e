//! One client's conversation with a server of its own: lines pass as they are. A server that is gone is answered for at
//! once, and started anew as soon as the client asks again.
//!
//! ```text
//! client ──> converse ──> Seat ──> server
//! client <────────────── speak <── server
//! ```

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use osvm_fleet::Server;
use osvm_fleet::agent::Stdin;
use osvm_mcp::lines::{Line, LineReader};
use osvm_mcp::{Fate, Ledger};
use osvm_spec::ServerName;
use osvm_wire::message::SessionId;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf, split};
use tokio::sync::{Mutex as AsyncMutex, Notify};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::io::InspectReader;

use super::Daemon;
use super::guest::Guest;
use super::upgrade::Stream;
use crate::api::{ApiError, RunRequest};

/// How long a server whose input has ended may take to finish its output.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// Which server a client wants, as often as it is lost.
pub(super) struct Wanted {
    pub(super) daemon: Arc<Daemon>,
    pub(super) name: ServerName,
    pub(super) request: RunRequest,
}

/// A server process of the client's own, in a VM that is in use.
pub(super) struct Opened {
    guest: Guest,
    server: Server,
}

impl Wanted {
    pub(super) async fn open(&self) -> Result<Opened, ApiError> {
        let RunRequest { overrides, secrets } = &self.request;
        let (guest, _) = self.daemon.guest(&self.name, overrides, secrets.clone(), None).await?;
        let server = guest.vm.start_server().await?;
        Ok(Opened { guest, server })
    }
}

/// Longest line of either side, in bytes.
const LINE: usize = 64 << 20;
/// How long a server may take to answer the handshake that its client has had with the one before.
const HANDSHAKE: Duration = Duration::from_secs(60);
/// How long it is waited for what the VM knows of a process's end.
const EXIT_REPORT: Duration = Duration::from_secs(2);

/// Until the client has gone.
pub(super) async fn converse(wanted: Wanted, first: Opened, stream: Stream) {
    let (from_client, to_client) = split(stream);
    let client = Arc::new(Client {
        output: AsyncMutex::new(to_client),
        ledger: Mutex::default(),
        greeted: Notify::new(),
    });
    let mut lines = LineReader::new(from_client, LINE);
    let mut seat = Seat::take(&wanted, first, &client);
    loop {
        let line = tokio::select! {
            line = lines.next() => match line {
                Ok(Some(line)) => line,
                _ => break,
            },
            // Its VM is in use no more.
            () = seat.over() => {
                seat.take_off().leave().await;
                continue;
            }
        };
        let is_over = seat.is_over();
        let fate = client.ledger().of_client(line.bytes);
        match (fate, is_over) {
            (Fate::Dropped | Fate::Answers, _) | (Fate::Passes, true) => {}
            (_, false) => seat.hear(line, &client).await,
            (Fate::Asks, true) => {
                seat.take_off().leave().await;
                seat = match Seat::again(&wanted, &client).await {
                    Ok(mut seat) => {
                        seat.hear(line, &client).await;
                        seat
                    }
                    Err(why) => {
                        client.lose(&why).await;
                        Seat::Empty
                    }
                };
            }
        }
    }
    seat.leave().await;
}

/// The client's end, which each server in turn speaks to.
struct Client {
    output: AsyncMutex<WriteHalf<Stream>>,
    ledger: Mutex<Ledger>,
    /// A new server has answered the handshake.
    greeted: Notify,
}

impl Client {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers what is open, since no server will.
    async fn lose(&self, why: &str) {
        let answers = self.ledger().lost(why);
        // A client that is gone needs none.
        let _ = self.tell(&[&answers]).await;
    }

    async fn tell(&self, pieces: &[&[u8]]) -> io::Result<()> {
        write(&mut *self.output.lock().await, pieces).await
    }

    /// Passes on what a server says until it has no more to say.
    async fn listen(&self, output: impl AsyncRead + Unpin) -> Option<String> {
        let mut lines = LineReader::new(output, LINE);
        loop {
            let line = match lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => return None,
                Err(error) => return Some(error.to_string()),
            };
            let fate = self.ledger().of_server(line.bytes);
            match fate {
                Fate::Answers => self.greeted.notify_one(),
                _ if self.tell(&[line.bytes, end(line)]).await.is_err() => return None,
                _ => {}
            }
        }
    }
}

/// Where the client's server is, if there is one.
enum Seat {
    Taken(Box<Taken>),
    Empty,
}

struct Taken {
    guest: Guest,
    session: SessionId,
    stdin: Stdin,
    /// Ends with the server's output, once what was open is answered.
    speaking: JoinHandle<()>,
}

impl Seat {
    fn take(wanted: &Wanted, opened: Opened, client: &Arc<Client>) -> Self {
        let Opened { guest, server } = opened;
        let hear = wanted.daemon.recordings.listener(&guest.vm.plan.name);
        let (session, ending) = (server.session, server.ending());
        let Server { stdin, stdout, .. } = server;
        let (client, name) = (Arc::clone(client), wanted.name.clone());
        let speaking = tokio::spawn(async move {
            let fault = match hear {
                None => client.listen(stdout).await,
                Some(hear) => client.listen(InspectReader::new(stdout, hear)).await,
            };
            let exit = timeout(EXIT_REPORT, ending.wait()).await.ok().flatten();
            let what = match (fault, exit) {
                (Some(fault), _) => format!("the server is not listened to any more: {fault}"),
                (None, Some(exit)) => format!("the server {exit}"),
                (None, None) => "the server is gone, and maybe its VM".to_owned(),
            };
            client.lose(&format!("{what} (osvm mcp microvm logs {name} --source server)")).await;
        });
        Self::Taken(Box::new(Taken { guest, session, stdin, speaking }))
    }

    /// A new server that was told what the client and the one before have said to each other first.
    async fn again(wanted: &Wanted, client: &Arc<Client>) -> Result<Self, String> {
        let opened = wanted.open().await.map_err(|error| error.message)?;
        let seat = Self::take(wanted, opened, client);
        let Some(hello) = client.ledger().replay() else { return Ok(seat) };
        let Self::Taken(mut taken) = seat else { return Ok(Self::Empty) };
        let greet = async {
            write(&mut taken.stdin, &[&hello, b"\n"]).await.ok()?;
            tokio::select! {
                () = client.greeted.notified() => {}
                _ = &mut taken.speaking => return None,
            }
            let ready = client.ledger().initialized().map(<[u8]>::to_vec).unwrap_or_default();
            write(&mut taken.stdin, &[&ready, b"\n"]).await.ok()
        };
        match timeout(HANDSHAKE, greet).await {
            Ok(Some(())) => Ok(Self::Taken(taken)),
            Ok(None) => {
                Self::Taken(taken).leave().await;
                Err("the server was started again, and ended before it had answered".to_owned())
            }
            Err(_) => {
                Self::Taken(taken).leave().await;
                Err(format!(
                    "the server was started again, and did not answer within {} s",
                    HANDSHAKE.as_secs()
                ))
            }
        }
    }

    fn take_off(&mut self) -> Self {
        mem::replace(self, Self::Empty)
    }

    /// Waits for the end of its server, which is told once.
    async fn over(&mut self) {
        match self {
            Self::Taken(taken) if !taken.speaking.is_finished() => {
                drop((&mut taken.speaking).await);
            }
            Self::Taken(_) => {}
            Self::Empty => std::future::pending().await,
        }
    }

    fn is_over(&self) -> bool {
        match self {
            Self::Taken(taken) => taken.speaking.is_finished(),
            Self::Empty => true,
        }
    }

    /// Has the server hear a line. Whatever becomes of it, the client is answered.
    async fn hear(&mut self, line: Line<'_>, client: &Client) {
        let Self::Taken(taken) = self else { return };
        let pieces = [line.bytes, end(line)];
        // One that does not read any more has ended, or will be found to have.
        tokio::select! {
            _ = write(&mut taken.stdin, &pieces) => {}
            _ = &mut taken.speaking => {}
        }
        if taken.speaking.is_finished() {
            client.lose("the server ended before it could be asked").await;
        }
    }

    /// Has the server end, which may have some last words.
    async fn leave(self) {
        let Self::Taken(taken) = self else { return };
        let Taken { guest, session, mut stdin, mut speaking } = *taken;
        let _ = stdin.shutdown().await;
        if !speaking.is_finished() && timeout(LAST_WORDS, &mut speaking).await.is_err() {
            speaking.abort();
        }
        guest.vm.close(session).await;
    }
}

/// What ended a line.
fn end(line: Line<'_>) -> &'static [u8] {
    if line.complete { b"\n" } else { b"" }
}

async fn write(to: &mut (impl AsyncWrite + Unpin), pieces: &[&[u8]]) -> io::Result<()> {
    for piece in pieces {
        to.write_all(piece).await?;
    }
    to.flush().await
}
