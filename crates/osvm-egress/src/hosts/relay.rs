//! One stream of a guest's, from its request to its end.
//!
//! ```text
//! request ── decide ── look up, connect ── "connected" ── first bytes ── bytes both ways ── log
//!     └─────────┴───────────┴── "refused", log          └── refused, log
//! ```
//!
//! The first bytes can be looked at only after the guest was told that it is connected, since it sends none
//! before. Until they are found good, nothing of them is passed on. A guest is waited for within limits at every
//! step, and what it does not read is not read for it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use osvm_spec::{HostRule, Hosts};
use osvm_wire::frame::{self, Decoder, FrameError};
use osvm_wire::grant::{HostAnswer, HostRequest};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::time::timeout;

use super::chunked::Chunked;
use super::dial::{Connected, DialError, Dialler};
use super::hello::{self, HelloError};
use super::log::{Account, Log, Subject};
use super::meter::{Meter, Metered};
use super::policy::{self, Grant, Host};
use super::web::{self, WebError};

/// Longest that a guest is waited for: for its request, and for its first bytes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most bytes of a request: a long name, and room for a mistaken one to be shown.
const LONGEST_REQUEST: usize = 4096;

/// A stream that a guest opened, and what it may be used for.
pub(crate) struct Errand<S> {
    pub(crate) stream: S,
    pub(crate) rules: Hosts,
    pub(crate) log: Arc<Log>,
    /// Why there is no room for another connection, if so.
    pub(crate) full: Option<Full>,
}

/// There are as many connections as there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Full {
    #[error("this VM has {0} connections, and may have no more")]
    Vm(usize),
    #[error("all VMs together have {0} connections, and may have no more")]
    All(usize),
}

/// Carries guests' streams.
pub(crate) struct Carrier {
    dialler: Dialler,
    /// How long a connection may stay without a byte either way.
    idle: Duration,
}

impl Carrier {
    pub(crate) fn new(dialler: Dialler, idle: Duration) -> Self {
        Self { dialler, idle }
    }

    /// Until the stream has ended. How it went is in the log.
    pub(crate) async fn carry<S>(&self, mut errand: Errand<S>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let request = timeout(PATIENCE, read_request(&mut errand.stream)).await;
        match request.unwrap_or(Err(RequestError::Late)) {
            Ok(HostRequest::Connect { host, port }) => self.connect(errand, &host, port).await,
            Ok(HostRequest::Refused { host, port }) => errand.note(&host, port),
            Ok(HostRequest::Tried { paths }) => {
                paths.iter().for_each(|path| errand.log.tried(path));
            }
            Err(error) => errand.log.refused(&Subject::Nothing, &error),
        }
    }

    async fn connect<S>(&self, mut errand: Errand<S>, host: &str, port: u16)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match self.open(&errand, host, port).await {
            Ok((grant, connected)) => {
                if answer(&mut errand.stream, &HostAnswer::Connected).await {
                    self.exchange(errand, &grant, connected).await;
                }
            }
            Err(failure) => {
                failure.log(&errand.log, &Subject::new(host, Some(port)));
                let why = failure.to_string();
                answer(&mut errand.stream, &HostAnswer::Refused { why }).await;
            }
        }
    }

    async fn open<S>(
        &self,
        errand: &Errand<S>,
        host: &str,
        port: u16,
    ) -> Result<(Grant, Connected), Failure> {
        errand.full.map_or(Ok(()), |full| Err(Failure::Full(full)))?;
        let grant = policy::decide(&errand.rules, host, port).map_err(DialError::Denied)?;
        let connected = self.dialler.dial(&grant).await?;
        Ok((grant, connected))
    }

    async fn exchange<S>(&self, errand: Errand<S>, grant: &Grant, connected: Connected)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let meter = Meter::start();
        let target = grant.target.clone();
        let account = Account::open(errand.log, target, connected.place, meter.clone());
        let guest = Chunked::new(errand.stream);
        let server = Metered::new(connected.stream, meter.clone());
        let ended = tokio::select! {
            ended = screened(grant, guest, server) => ended,
            () = meter.idle(self.idle) => Err(Interruption::Idle(self.idle)),
        };
        match ended {
            Ok(()) => account.close(None),
            Err(reason) if reason.is_refusal() => account.refuse(&reason),
            Err(reason) => account.close(Some(reason.to_string())),
        }
    }
}

impl<S> Errand<S> {
    /// What the agent refused by itself, with what would have allowed it.
    fn note(&self, host: &str, port: Option<u16>) {
        let subject = Subject::new(host, port);
        // A name alone was looked up; what would have followed is likely the web.
        let port = port.unwrap_or(HostRule::USUAL_PORTS[0]);
        match policy::decide(&self.rules, host, port) {
            Err(denial) => self.log.refused_in_guest(&subject, &denial),
            Ok(_) => self.log.refused_in_guest(&subject, &"the guest had no room for it"),
        }
    }
}

/// Why a stream has no connection.
#[derive(Debug, Error)]
enum Failure {
    #[error(transparent)]
    Full(Full),
    #[error(transparent)]
    Dial(#[from] DialError),
}

impl Failure {
    fn log(&self, log: &Log, subject: &Subject) {
        match self {
            Self::Full(_) | Self::Dial(DialError::Denied(_)) => log.refused(subject, self),
            Self::Dial(_) => log.failed(subject, self),
        }
    }
}

/// Why a guest's request can't be read.
#[derive(Debug, Error)]
pub(crate) enum RequestError {
    #[error("a stream brought no request in {} s", PATIENCE.as_secs())]
    Late,
    #[error("a request is longer than {LONGEST_REQUEST} bytes")]
    TooLong,
    #[error("a stream went on before its request was answered")]
    Eager,
    #[error("a request can't be read: {0}")]
    Frame(#[from] FrameError),
    #[error("a stream broke before its request had come: {0}")]
    Broken(#[from] io::Error),
}

pub(crate) async fn read_request<S: AsyncRead + Unpin>(
    stream: &mut S,
) -> Result<HostRequest, RequestError> {
    let mut decoder = Decoder::default();
    let mut room = [0; LONGEST_REQUEST];
    let mut filled = 0;
    while filled < room.len() {
        let length = stream.read(&mut room[filled..]).await?;
        if length == 0 {
            decoder.finish()?;
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        decoder.push(&room[filled..filled + length]);
        filled += length;
        if let Some(request) = decoder.decode()? {
            decoder.finish().map_err(|_| RequestError::Eager)?;
            return Ok(request);
        }
    }
    Err(RequestError::TooLong)
}

/// Whether the guest was there to be told.
async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, answer: &HostAnswer) -> bool {
    let Ok(frame) = frame::encode(answer) else { return false };
    let told = async {
        stream.write_all(&frame).await?;
        stream.flush().await
    };
    matches!(timeout(PATIENCE, told).await, Ok(Ok(())))
}

/// Why a connection ended otherwise than its two programs wished.
#[derive(Debug, Error)]
enum Interruption {
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error("it began with no TLS hello in {} s", PATIENCE.as_secs())]
    LateHello,
    #[error(transparent)]
    Web(#[from] WebError),
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("no byte either way for {} s", .0.as_secs())]
    Idle(Duration),
}

impl Interruption {
    fn is_refusal(&self) -> bool {
        use HelloError::{NoName, NotTls, OtherName, TooLong};
        match self {
            Self::Hello(error) => {
                matches!(error, NotTls(_) | TooLong | NoName | OtherName(_))
            }
            Self::Web(WebError::Guest(error)) => error.is_parse(),
            Self::Web(error) => matches!(error, WebError::Request(_)),
            Self::LateHello | Self::Broken(_) | Self::Idle(_) => false,
        }
    }
}

/// Carries bytes both ways, after what can be known of their meaning was found to be what was granted. The host's
/// own loopback speaks for nobody else, whatever it is called there.
async fn screened<G, S>(grant: &Grant, mut guest: G, mut server: S) -> Result<(), Interruption>
where
    G: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match (&grant.target.host, grant.target.port) {
        (Host::Name(name), 443) => greet(&mut guest, &mut server, Some(name)).await?,
        (Host::Address(_), 443) => greet(&mut guest, &mut server, None).await?,
        (Host::Name(name), 80) => return Ok(web::carry(guest, server, name, PATIENCE).await?),
        (Host::Name(_) | Host::Address(_) | Host::Own, _) => {}
    }
    copy_bidirectional(&mut guest, &mut server).await?;
    Ok(())
}

/// Passes the TLS hello on if it asks for the host that was granted, and else tells the guest in TLS's words.
async fn greet<G, S>(guest: &mut G, server: &mut S, name: Option<&str>) -> Result<(), Interruption>
where
    G: AsyncRead + AsyncWrite + Unpin,
    S: AsyncWrite + Unpin,
{
    let hello = timeout(PATIENCE, hello::read(guest, name)).await;
    match hello.map_err(|_| Interruption::LateHello)? {
        Ok(bytes) => Ok(server.write_all(&bytes).await?),
        Err(error) => {
            let farewell = async {
                guest.write_all(&hello::ALERT).await?;
                guest.shutdown().await
            };
            // Who does not listen to it does without.
            let _ = timeout(PATIENCE, farewell).await;
            Err(error.into())
        }
    }
}

impl fmt::Debug for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carrier").field("idle", &self.idle).finish_non_exhaustive()
    }
}
