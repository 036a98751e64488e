//! `POST /v1/servers/{name}/run`: a server process of the client's own; bytes pass unread.

use std::future::Future;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use osvm_fleet::Server;
use osvm_spec::ServerName;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncWriteExt, copy};
use tokio_util::io::InspectReader;

use super::record::Listener;
use super::{MAX_BODY, Shared};
use crate::api::{ApiError, ErrorKind, RunRequest, UPGRADE};

pub(super) type Stream = TokioIo<hyper::upgrade::Upgraded>;

/// How long a server whose input has ended may take to finish its output.
const LAST_WORDS: Duration = Duration::from_secs(10);

pub(super) async fn start(
    State(daemon): Shared,
    Path(name): Path<ServerName>,
    request: Request,
) -> Result<Response, ApiError> {
    let (upgrade, request) = accept::<RunRequest>(request).await?;
    let (guest, _) = daemon.guest(&name, &request.overrides, request.secrets, None).await?;
    let server = guest.vm.start_server().await?;
    Ok(upgrade.then(move |stream| async move {
        let session = server.session;
        let hear = daemon.recordings.listener(&guest.vm.plan.name);
        pass(stream, server, hear).await;
        guest.vm.close(session).await;
        drop(guest);
    }))
}

/// Both directions until the server's output ends, or the client has gone.
async fn pass(stream: Stream, server: Server, hear: Option<Listener>) {
    let (mut from_client, mut to_client) = tokio::io::split(stream);
    let (mut stdin, mut stdout) = (server.stdin, server.stdout);
    let output = async {
        let _ = match hear {
            None => copy(&mut stdout, &mut to_client).await,
            Some(hear) => copy(&mut InspectReader::new(stdout, hear), &mut to_client).await,
        };
        let _ = to_client.shutdown().await;
    };
    let input = async {
        let _ = copy(&mut from_client, &mut stdin).await;
        let _ = stdin.shutdown().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        () = output => {}
        () = input => {}
    }
}

/// A connection that becomes a byte stream once its request has been answered.
pub(super) struct Upgrade(OnUpgrade);

/// Reads the request's body and checks that it asks for an upgrade.
pub(super) async fn accept<T: DeserializeOwned>(
    mut request: Request,
) -> Result<(Upgrade, T), ApiError> {
    let asked = request.headers().get(header::UPGRADE).is_some_and(|to| to == UPGRADE);
    if !asked {
        let message = format!("this request needs the header upgrade: {UPGRADE}");
        return Err(ApiError::new(ErrorKind::Usage, message));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let unreadable = |error: &dyn std::fmt::Display| {
        ApiError::new(ErrorKind::Usage, format!("the request can't be read: {error}"))
    };
    let body = to_bytes(request.into_body(), MAX_BODY).await.map_err(|e| unreadable(&e))?;
    let body = serde_json::from_slice(&body).map_err(|e| unreadable(&e))?;
    Ok((Upgrade(upgrade), body))
}

impl Upgrade {
    /// Answers that the protocol changes, and goes on with `work` once it has.
    pub(super) fn then<F>(self, work: impl FnOnce(Stream) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send,
    {
        tokio::spawn(async move {
            match self.0.await {
                Ok(stream) => work(TokioIo::new(stream)).await,
                Err(error) => tracing::debug!(%error, "client went before the upgrade"),
            }
        });
        Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, UPGRADE)
            .body(Body::empty())
            .expect("status and headers are fixed text")
    }
}
