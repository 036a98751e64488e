//! `POST /v1/servers/{name}/run`: a server process of the client's own.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use osvm_spec::ServerName;
use tokio::task::spawn_blocking;

use super::Shared;
use super::apart::Apart;
use super::guarded;
use super::session::{self, Wanted};
use super::upgrade::accept;
use crate::api::{ApiError, RunRequest};
use crate::audit::Way;

pub(super) async fn start(
    State(daemon): Shared,
    Path(name): Path<ServerName>,
    request: Request,
) -> Result<Response, ApiError> {
    let (upgrade, request) = accept::<RunRequest>(request).await?;
    let config = daemon.config()?;
    let watch = daemon.watch(&config, &name, &request.overrides, &request.secrets, Way::Run)?;
    let watch = watch.for_whom(request.on_behalf.as_ref());
    let apart = Apart {
        daemon: Arc::clone(&daemon),
        server: watch.server.clone(),
        overrides: request.overrides.clone(),
        secrets: request.secrets.clone(),
    };
    let place = watch.place();
    let wanted = spawn_blocking(move || Wanted::new(daemon, name, request, place)).await;
    let wanted = wanted.map_err(|error| ApiError::failed(&error))??;
    // A tool's time begins with its call, and is not for a VM to start in.
    let first = match wanted.is_known() && !watch.rules.has_timeouts() {
        true => None,
        false => Some(wanted.open().await?),
    };
    Ok(upgrade.then(move |client| {
        guarded::carry(watch, apart, client, move |stream| session::converse(wanted, first, stream))
    }))
}
