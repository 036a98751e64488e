//! HTTP/1 over the daemon's Unix socket: one connection a request.

use std::io;
use std::pin::Pin;

use futures::TryStreamExt;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio::net::UnixStream;
use tokio_util::io::StreamReader;

use super::{daemon_gone, failed, unreadable};
use crate::api::{ApiError, UPGRADE};
use crate::home::Home;

/// An upgraded connection: raw bytes in both directions.
pub type Upgraded = TokioIo<hyper::upgrade::Upgraded>;

/// The answer's body, as it arrives.
pub type Body = Pin<Box<dyn AsyncRead + Send>>;

pub(super) async fn open(home: &Home) -> io::Result<UnixStream> {
    UnixStream::connect(home.socket()).await
}

/// Sends one request and hands over the body of a successful answer.
pub(super) async fn request(
    home: &Home,
    method: &str,
    target: &str,
    body: &impl Serialize,
) -> Result<Body, ApiError> {
    let request = Request::builder().method(method).uri(target);
    let answer = send(home, request, body).await?;
    if answer.status().is_success() {
        let bytes = answer.into_body().into_data_stream().map_err(io::Error::other);
        return Ok(Box::pin(StreamReader::new(bytes)));
    }
    Err(refusal(answer).await)
}

/// Sends one request that turns the connection into a byte stream.
pub(super) async fn upgrade(
    home: &Home,
    target: &str,
    body: &impl Serialize,
) -> Result<Upgraded, ApiError> {
    let request = Request::builder()
        .method("POST")
        .uri(target)
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, UPGRADE);
    let answer = send(home, request, body).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(refusal(answer).await);
    }
    let upgraded = hyper::upgrade::on(answer).await.map_err(|_| daemon_gone())?;
    Ok(TokioIo::new(upgraded))
}

async fn send(
    home: &Home,
    request: hyper::http::request::Builder,
    body: &impl Serialize,
) -> Result<Response<Incoming>, ApiError> {
    let stream = open(home).await.map_err(|error| {
        let socket = home.socket();
        failed(format!("no daemon answers on {}: {error}", socket.display()), "osvm daemon")
    })?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|_| daemon_gone())?;
    tokio::spawn(connection.with_upgrades());
    let bytes = serde_json::to_vec(body).map_err(|error| unreadable(&error))?;
    let request = request
        .header(header::HOST, "osvm")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(bytes)))
        .expect("method, path and headers are fixed text and checked names");
    sender.send_request(request).await.map_err(|_| daemon_gone())
}

async fn refusal(answer: Response<Incoming>) -> ApiError {
    let status = answer.status();
    let body = answer.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    body.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_else(|| {
        failed(format!("the daemon answered with status {status}"), "osvm doctor")
    })
}
