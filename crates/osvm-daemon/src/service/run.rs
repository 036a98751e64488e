//! `POST /v1/servers/{name}/run`: a server process of the client's own.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use osvm_spec::ServerName;

use super::Shared;
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
    let watch = daemon.watch(&name, &request.overrides, &request.secrets, Way::Run)?;
    let watch = watch.for_whom(request.on_behalf.as_ref());
    let wanted = Wanted { daemon, name, request, place: watch.place() };
    let first = wanted.open().await?;
    Ok(upgrade.then(move |client| {
        guarded::carry(watch, client, move |stream| session::converse(wanted, first, stream))
    }))
}
