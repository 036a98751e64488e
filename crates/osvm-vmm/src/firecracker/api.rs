//! Firecracker's API: HTTP/1 on a Unix socket, JSON bodies, and a `fault_message` where it refuses.

use std::error::Error;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Collected, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;
use tokio::net::UnixStream;

/// How soon a socket that is not there yet is tried again.
const RETRY: Duration = Duration::from_millis(2);

/// Longest answer taken, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// One kept-alive connection.
pub(super) struct Api {
    requests: SendRequest<Full<Bytes>>,
}

#[derive(Debug, Error)]
pub(super) enum ApiError {
    /// Firecracker's own words.
    #[error("{0}")]
    Refused(String),
    #[error("it closed its API socket")]
    Ended,
    #[error("API socket: {0}")]
    Socket(String),
}

#[derive(Deserialize)]
struct Fault {
    fault_message: String,
}

impl Api {
    /// Connects as soon as the socket is there. Firecracker has no way to tell when that is, so
    /// this tries until whoever calls gives up.
    pub(super) async fn wait(socket: &Path) -> Result<Self, ApiError> {
        loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => return Self::on(stream).await,
                Err(error) if not_yet(&error) => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(ApiError::Socket(error.to_string())),
            }
        }
    }

    pub(super) async fn connect(socket: &Path) -> Result<Self, ApiError> {
        match UnixStream::connect(socket).await {
            Ok(stream) => Self::on(stream).await,
            Err(error) if not_yet(&error) => Err(ApiError::Ended),
            Err(error) => Err(ApiError::Socket(error.to_string())),
        }
    }

    async fn on(stream: UnixStream) -> Result<Self, ApiError> {
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends when `requests` is dropped or Firecracker closes; requests under way hear of it.
        tokio::spawn(connection);
        Ok(Self { requests })
    }

    pub(super) async fn put(&mut self, path: &str, body: &Value) -> Result<(), ApiError> {
        self.send(Method::PUT, path, body).await
    }

    pub(super) async fn patch(&mut self, path: &str, body: &Value) -> Result<(), ApiError> {
        self.send(Method::PATCH, path, body).await
    }

    async fn send(&mut self, method: Method, path: &str, body: &Value) -> Result<(), ApiError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))
            .map_err(|error| ApiError::Socket(error.to_string()))?;
        self.requests.ready().await?;
        let answer = self.requests.send_request(request).await?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(ApiError::Refused(fault(path, answer).await))
    }
}

/// Makes one request of whatever is at the other end, for the fuzzing crate.
pub async fn fuzz(socket: UnixStream) -> Result<(), String> {
    let made = async { Api::on(socket).await?.put("/", &Value::Null).await };
    made.await.map_err(|error: ApiError| error.to_string())
}

async fn fault(path: &str, answer: Response<Incoming>) -> String {
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let body = body.map(Collected::to_bytes).unwrap_or_default();
    match serde_json::from_slice::<Fault>(&body) {
        Ok(fault) => fault.fault_message,
        Err(_) => format!("{path}: {status}"),
    }
}

fn not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

impl From<hyper::Error> for ApiError {
    fn from(error: hyper::Error) -> Self {
        let is_closed = error.is_closed() || error.is_canceled() || error.is_incomplete_message();
        if is_closed || is_cut_off(&error) { Self::Ended } else { Self::Socket(error.to_string()) }
    }
}

/// Whether the other end was gone before it had read all.
fn is_cut_off(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    let gone = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    cause.is_some_and(|cause| gone.contains(&cause.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_firecracker_that_is_killed_over_a_request_has_ended() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut api = Api::on(ours).await.unwrap();
        let killed = async {
            theirs.readable().await.unwrap();
            // With the request unread, which resets the connection.
            drop(theirs);
        };
        let (answer, ()) = tokio::join!(api.put("/", &Value::Null), killed);
        assert!(matches!(answer, Err(ApiError::Ended)), "{answer:?}");
    }
}
