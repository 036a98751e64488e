//! Requests that become byte streams.

use std::future::Future;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::Response;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use super::MAX_BODY;
use crate::api::{ApiError, ErrorKind, UPGRADE};

pub(super) type Stream = TokioIo<hyper::upgrade::Upgraded>;

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
