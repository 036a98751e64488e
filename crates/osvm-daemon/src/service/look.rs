//! `POST /v1/servers/{name}/look`: the tools of a server as it is in some image, whatever was accepted of it.

use std::path::Path as FsPath;

use axum::Json;
use axum::extract::{Path, State};
use osvm_fleet::StartedBy;
use osvm_spec::{Access, Folder, Hosts, ImageRef, Overrides, Secrets, Server, ServerName};

use super::Shared;
use super::answer::{self, Answer};
use crate::api::{ApiError, ListAnswer, LookRequest};

/// In place of a secret's value: a server that only asks whether it has one starts with it.
const PLACEHOLDER: &str = "osvm-placeholder";

pub(super) async fn look(
    State(daemon): Shared,
    Path(name): Path<ServerName>,
    Json(request): Json<LookRequest>,
) -> Answer<ListAnswer> {
    let config = daemon.config()?;
    let server = daemon.registered(&config, &name, &Overrides::default())?;
    let server = Server { locked: false, image: Some(ImageRef::Digest(request.image)), ..server };
    let empty = tempfile::tempdir().map_err(|error| ApiError::failed(&error))?;
    let (server, secrets) = match request.confined {
        true => confined(server, empty.path()),
        false => (server, request.secrets),
    };
    let (launch, limit) = (server.launch_timeout, server.call_timeout);
    let mut plan = daemon.plan(server, secrets, StartedBy::Auto)?;
    let _alone = daemon.set_apart(&mut plan);
    let vm = daemon.fleet.ensure(plan).await?;
    let _visit = vm.visit();
    let tools = vm.converse(&daemon.greeter, launch).await?.list_tools(limit).await?;
    answer::json(ListAnswer { items: tools.into_iter().map(|tool| tool.raw).collect() })
}

/// The server with nothing of its user's: what it is made of was not accepted yet.
fn confined(server: Server, empty: &FsPath) -> (Server, Secrets) {
    let nothing = |folder: Folder| Folder { host: empty.to_owned(), access: Access::Ro, ..folder };
    let folders = server.folders.into_iter().map(nothing).collect();
    let placeholder = |name: &String| (name.clone(), PLACEHOLDER.to_owned());
    let secrets = server.secrets.iter().map(|rule| placeholder(&rule.name)).collect();
    (Server { hosts: Hosts::default(), folders, ..server }, secrets)
}
