//! HTTP on port 80, request by request: each is for the granted host, or it is not passed on.
//!
//! `hyper` reads every request and writes it anew, so what was checked is what the server gets: there is no
//! second way to read a head or to find the end of a body. Only WebSockets leave HTTP; a request to go on in
//! HTTP/2, whose requests would pass unread, loses that wish.

use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1 as client;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, UPGRADE};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use osvm_spec::plain_host_name;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::sync::Notify;

use super::log::Escaped;

/// Most bytes of a head, or of a body that waits for its reader.
const BUFFER: usize = 64 * 1024;

/// Why an exchange ended otherwise than its two programs wished.
#[derive(Debug, Error)]
pub(crate) enum WebError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("it sent no request in {} s", .0.as_secs())]
    Late(Duration),
    #[error("the guest's HTTP can't be read: {0}")]
    Guest(hyper::Error),
    #[error("the server's HTTP can't be read: {0}")]
    Server(hyper::Error),
    #[error("the connection broke: {0}")]
    Broken(std::io::Error),
}

/// Why a request is not passed on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum RequestError {
    #[error("a request names no host")]
    NoHost,
    #[error("a request names two hosts")]
    TwoHosts,
    #[error("a request asks for {}", Escaped(.0))]
    OtherHost(String),
    #[error("a request asks for a tunnel")]
    Tunnel,
}

type Body = Either<Incoming, Full<Bytes>>;
type Sender = client::SendRequest<Incoming>;

/// Carries requests for `granted` and their responses until either side has ended. The first request must come
/// within `limit`.
pub(crate) async fn carry<G, S>(
    guest: G,
    server: S,
    granted: &str,
    limit: Duration,
) -> Result<(), WebError>
where
    G: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut builder = client::Builder::new();
    builder.preserve_header_case(true).max_buf_size(BUFFER);
    let handshake = builder.handshake(TokioIo::new(server)).await;
    let (sender, upstream) = handshake.map_err(WebError::Server)?;
    let exchange = Exchange::new(granted, sender);

    let mut upstream = pin!(upstream.with_upgrades());
    let has_server = exchange.speak(guest, upstream.as_mut(), limit).await?;
    exchange.finish(async { if has_server { upstream.await } else { Ok(()) } }).await
}

/// The requests of one connection.
struct Exchange<'g> {
    granted: &'g str,
    /// Requests come one after the other.
    sender: tokio::sync::Mutex<Sender>,
    has_begun: Notify,
    refused: Mutex<Option<RequestError>>,
    /// The two ends of what was HTTP, once both agreed to leave it.
    ends: Mutex<Option<(OnUpgrade, OnUpgrade)>>,
}

impl<'g> Exchange<'g> {
    fn new(granted: &'g str, sender: Sender) -> Self {
        Self {
            granted,
            sender: sender.into(),
            has_begun: Notify::new(),
            refused: Mutex::default(),
            ends: Mutex::default(),
        }
    }

    /// Until the guest's side has left HTTP. Returns whether the server's side is still there.
    async fn speak<G>(
        &self,
        guest: G,
        mut upstream: Pin<&mut impl Future<Output = hyper::Result<()>>>,
        limit: Duration,
    ) -> Result<bool, WebError>
    where
        G: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(|request| self.answer(request));
        let mut builder = server::Builder::new();
        builder.preserve_header_case(true).auto_date_header(false).max_buf_size(BUFFER);
        builder.half_close(true).header_read_timeout(None);
        let downstream = builder.serve_connection(TokioIo::new(guest), service).with_upgrades();
        let (mut downstream, mut late) = (pin!(downstream), pin!(self.late(limit)));
        let mut has_server = true;
        loop {
            tokio::select! {
                ended = &mut downstream => return ended.map(|()| has_server).map_err(WebError::Guest),
                ended = &mut upstream, if has_server => {
                    has_server = false;
                    // Responses that have arrived are still passed on.
                    downstream.as_mut().graceful_shutdown();
                    ended.map_err(WebError::Server)?;
                }
                () = &mut late => return Err(WebError::Late(limit)),
            }
        }
    }

    /// Returns when the first request is late, and never when it was not.
    async fn late(&self, limit: Duration) {
        if tokio::time::timeout(limit, self.has_begun.notified()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> hyper::Result<Response<Body>> {
        self.has_begun.notify_one();
        let (mut head, body) = request.into_parts();
        if let Err(error) = check(&head, self.granted) {
            let response = refusal(&error);
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return Ok(response);
        }
        let leaves = leaves_http(&head.headers);
        if !leaves {
            head.headers.remove(UPGRADE);
        }
        let mut request = Request::from_parts(head, body);
        let guest = hyper::upgrade::on(&mut request);
        let response = self.pass_on(request).await?;
        Ok(self.returned(response, leaves.then_some(guest)))
    }

    async fn pass_on(&self, request: Request<Incoming>) -> hyper::Result<Response<Incoming>> {
        let mut sender = self.sender.lock().await;
        sender.ready().await?;
        sender.send_request(request).await
    }

    fn returned(
        &self,
        mut response: Response<Incoming>,
        guest: Option<OnUpgrade>,
    ) -> Response<Body> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let Some(guest) = guest else { return text(StatusCode::BAD_GATEWAY, UNASKED) };
            let server = hyper::upgrade::on(&mut response);
            *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = Some((guest, server));
        }
        response.map(Either::Left)
    }

    /// After HTTP: goes on with what it was left for, or tells how it ended.
    async fn finish(
        self,
        upstream: impl Future<Output = hyper::Result<()>>,
    ) -> Result<(), WebError> {
        if let Some(error) = self.refused.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error.into());
        }
        // Without its sender, the server's side ends by itself.
        drop(self.sender);
        let ends = self.ends.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Some((guest, server)) = ends else { return Ok(()) };
        upstream.await.map_err(WebError::Server)?;
        let mut guest = TokioIo::new(guest.await.map_err(WebError::Guest)?);
        let mut server = TokioIo::new(server.await.map_err(WebError::Server)?);
        copy_bidirectional(&mut guest, &mut server).await.map_err(WebError::Broken)?;
        Ok(())
    }
}

/// Whether all that a request says about its host is `granted`.
fn check(head: &Parts, granted: &str) -> Result<(), RequestError> {
    if head.method == Method::CONNECT {
        return Err(RequestError::Tunnel);
    }
    let mut named = head.headers.get_all(HOST).iter();
    let host = named.next().ok_or(RequestError::NoHost)?;
    if named.next().is_some() {
        return Err(RequestError::TwoHosts);
    }
    compare(host.as_bytes(), granted)?;
    // A whole URL counts before the field does.
    let authority = head.uri.authority().map(Authority::as_str);
    authority.map_or(Ok(()), |authority| compare(authority.as_bytes(), granted))
}

fn compare(named: &[u8], granted: &str) -> Result<(), RequestError> {
    let authority = Authority::try_from(named).ok().filter(|named| !named.as_str().contains('@'));
    let host = authority.and_then(|authority| plain_host_name(authority.host()));
    let other = || RequestError::OtherHost(String::from_utf8_lossy(named).into_owned());
    host.filter(|host| host == granted).map(|_| ()).ok_or_else(other)
}

fn leaves_http(headers: &HeaderMap) -> bool {
    let mut wishes = headers.get_all(UPGRADE).iter();
    let wish = wishes.next().map(HeaderValue::as_bytes).unwrap_or_default();
    wish.eq_ignore_ascii_case(b"websocket") && wishes.next().is_none()
}

const UNASKED: &str = "the server left HTTP unasked";

fn refusal(error: &RequestError) -> Response<Body> {
    text(StatusCode::FORBIDDEN, &format!("osvm refuses this request: {error}"))
}

/// The last answer on its connection.
fn text(status: StatusCode, words: &str) -> Response<Body> {
    let mut response = Response::new(Either::Right(Full::from(format!("{words}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests;
