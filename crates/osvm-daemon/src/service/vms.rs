//! `/v1/vms`: launch, show, suspend, stop.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::{Stream, StreamExt, stream};
use osvm_fleet::drivers::memory_limit_bytes;
use osvm_fleet::state::State as VmState;
use osvm_fleet::{Launch, StartedBy, Vm};
use osvm_mcp::Client;
use osvm_spec::ServerName;

use super::answer::{self, Answer, no_vm};
use super::usage::Usage;
use super::{Daemon, Shared, record};
use crate::api::{
    ApiError, LaunchEvent, LaunchRequest, ServerIdentity, StopQuery, Timings, VmStatus,
};
use crate::payload;

pub(super) type Guest = Vm<Client>;

/// Answers with a line for every state. The launch hangs on the answer's body: a client that hangs
/// up drops it, and a VM that nobody waits for is stopped.
pub(super) async fn launch(
    State(daemon): Shared,
    Json(request): Json<LaunchRequest>,
) -> Result<Response, ApiError> {
    let server = daemon.resolve(&request.name, &request.overrides)?;
    if request.record {
        return Ok(lines(record::start(daemon, server, request.secrets).await?));
    }
    let launch =
        daemon.fleet.launch(daemon.plan(server, request.secrets, StartedBy::User)?).await?;
    Ok(lines(events(daemon, launch)))
}

fn lines(events: impl Stream<Item = LaunchEvent> + Send + 'static) -> Response {
    let lines = events.map(|event| {
        let mut line = serde_json::to_vec(&event).expect("events are plain data");
        line.push(b'\n');
        Ok::<_, Infallible>(line)
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, Body::from_stream(lines)).into_response()
}

pub(super) async fn list(State(daemon): Shared) -> Answer<Vec<VmStatus>> {
    answer::json(daemon.fleet.list().iter().map(|vm| daemon.status(vm)).collect())
}

pub(super) async fn show(State(daemon): Shared, Path(name): Path<ServerName>) -> Answer<VmStatus> {
    let vm = daemon.fleet.get(&name).ok_or_else(|| no_vm(&name))?;
    answer::json(daemon.status(&vm))
}

pub(super) async fn stop(
    State(daemon): Shared,
    Path(name): Path<ServerName>,
    Query(StopQuery { id }): Query<StopQuery>,
) -> Answer<VmStatus> {
    let vm = daemon.fleet.get(&name).ok_or_else(|| no_vm(&name))?;
    if id.is_some_and(|id| id != vm.id.as_str()) {
        return Err(no_vm(&name));
    }
    daemon.fleet.end(&vm).await;
    answer::json(daemon.status(&vm))
}

pub(super) async fn suspend(
    State(daemon): Shared,
    Path(name): Path<ServerName>,
) -> Answer<VmStatus> {
    let vm = daemon.fleet.suspend(&name).await?.ok_or_else(|| no_vm(&name))?;
    answer::json(daemon.status(&vm))
}

pub(super) async fn stop_all(State(daemon): Shared) -> Answer<Vec<VmStatus>> {
    let names: Vec<_> = daemon.fleet.list().iter().map(|vm| vm.plan.name.clone()).collect();
    let stops = names.iter().map(|name| daemon.fleet.stop(name));
    let (stopped, ()) = tokio::join!(futures::future::join_all(stops), daemon.fleet.clear_spares());
    answer::json(stopped.iter().flatten().map(|vm| daemon.status(vm)).collect())
}

/// Every state from the present one on; the last event says how the launch ended.
pub(super) fn events(
    daemon: Arc<Daemon>,
    launch: Launch<Client>,
) -> impl Stream<Item = LaunchEvent> + Send {
    let states = launch.vm().states();
    stream::unfold(Some((daemon, launch, states, true)), |watching| async {
        let (daemon, launch, mut states, first) = watching?;
        if !first && states.changed().await.is_err() {
            return None;
        }
        let state = states.borrow_and_update().clone();
        match state {
            VmState::Ready => {
                let vm = Box::new(daemon.status(launch.vm()));
                Some((LaunchEvent::Ready { vm }, None))
            }
            state if state.is_end() || state == VmState::Stopping => {
                let error = launch.ready().await.err().map(ApiError::from);
                Some((LaunchEvent::Failed { error: error? }, None))
            }
            state => {
                let (id, state) = (Some(launch.vm().id.to_string()), state.word().to_owned());
                let event = LaunchEvent::State { id, state };
                Some((event, Some((daemon, launch, states, false))))
            }
        }
    })
}

impl Daemon {
    pub(super) fn status(&self, vm: &Guest) -> VmStatus {
        let facts = vm.facts();
        let pid = vm.pid();
        let usage = pid.map(|pid| Usage::of(&self.host.proc, pid));
        let memory = usage.and_then(|usage| usage.memory);
        let state = vm.state();
        let command = facts.as_ref().map(|facts| facts.command.clone()).unwrap_or_default();
        VmStatus {
            name: vm.plan.name.clone(),
            id: vm.id.to_string(),
            state: state.word().to_owned(),
            cause: match state {
                VmState::Failed(cause) => Some(cause.message),
                _ => None,
            },
            fault: vm.fault(),
            vmm: facts.as_ref().map(|facts| facts.vmm.clone()).unwrap_or_default(),
            accelerator: facts.as_ref().map(|facts| facts.accelerator.clone()).unwrap_or_default(),
            cloned: facts.as_ref().is_some_and(|facts| facts.cloned),
            pid,
            vcpus: vm.plan.resources.vcpus(),
            memory_mib: vm.plan.resources.memory_mib(),
            memory_limit_bytes: memory_limit(vm),
            memory_used_bytes: memory.map(|memory| memory.proportional),
            memory_resident_bytes: memory.map(|memory| memory.resident),
            memory_shared_bytes: memory.map(|memory| memory.shared),
            memory_unique_bytes: memory.map(|memory| memory.unique),
            cpu_seconds: usage.and_then(|usage| usage.cpu_seconds),
            uptime_seconds: vm.uptime().as_secs_f64(),
            sessions: vm.visits(),
            calls: vm.calls(),
            started_by: match vm.plan.started_by {
                StartedBy::User => "user".to_owned(),
                StartedBy::Auto => "auto".to_owned(),
            },
            demo: command.first().is_some_and(|program| program == payload::DEMO_PATH),
            command,
            image: facts.as_ref().map(|facts| facts.image.to_string()).unwrap_or_default(),
            server: vm.current().map(|client| identity(&client)),
            timings: timings(vm.timings()),
            run_dir: facts.map(|facts| facts.run_dir).unwrap_or_default(),
            hosts: vm.plan.hosts.clone(),
            folders: vm.plan.folders.clone(),
            jail: vm.jail(),
        }
    }
}

fn memory_limit(vm: &Guest) -> u64 {
    let accelerator = vm.facts().map(|facts| facts.accelerator).unwrap_or_default();
    memory_limit_bytes(vm.plan.resources, &accelerator)
}

fn identity(client: &Client) -> ServerIdentity {
    let server = client.server();
    ServerIdentity {
        name: server.name.clone(),
        version: server.version.clone(),
        protocol: server.protocol_version.clone(),
    }
}

fn timings(timings: osvm_fleet::Timings) -> Timings {
    let millis = |d: Option<std::time::Duration>| {
        d.and_then(|duration| u64::try_from(duration.as_millis()).ok())
    };
    Timings {
        prepared_ms: millis(timings.prepared),
        agent_ms: millis(timings.agent),
        ready_ms: millis(timings.ready),
    }
}
