//! `POST /v1/work`: one command in a VM of its own, which ends with it.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use osvm_fleet::{Plan, Purpose, Rootfs, StartedBy};
use osvm_spec::{Resources, Secrets};

use super::run::accept;
use super::{Daemon, Shared, exec};
use crate::api::{ApiError, ErrorKind, WorkRequest};

/// From the launch to the agent's answer.
const START: Duration = Duration::from_secs(120);

pub(super) async fn start(State(daemon): Shared, request: Request) -> Result<Response, ApiError> {
    let (upgrade, request) = accept::<WorkRequest>(request).await?;
    let argv = request.argv.clone();
    let mut plan = daemon.worker(request)?;
    let alone = daemon.set_apart(&mut plan);
    let vm = daemon.fleet.ensure(plan).await?;
    let visit = vm.visit();
    let session = vm.exec(argv, None).await?;
    Ok(upgrade.then(move |stream| async move {
        exec::converse(stream, session).await;
        drop((visit, alone));
    }))
}

impl Daemon {
    fn worker(&self, request: WorkRequest) -> Result<Plan, ApiError> {
        let resources = Resources::new(request.memory_mb, request.vcpus)
            .map_err(|error| ApiError::new(ErrorKind::Usage, error.to_string()))?;
        let microvm = self.config()?.microvm;
        Ok(Plan {
            name: "build".parse().expect("it is a name"),
            purpose: Purpose::Work,
            resources,
            hypervisor: microvm.hypervisor,
            cpu_template: microvm.cpu_template,
            kernel: self.kernel(&microvm),
            rootfs: Rootfs::Image(request.image),
            command: Vec::new(),
            args: Vec::new(),
            env: Vec::new(),
            secrets: Secrets::default(),
            hosts: request.hosts,
            folders: Vec::new(),
            // The VM is the user's for as long as it lives, and packages install as root does.
            user: Some("root".to_owned()),
            working_dir: None,
            start_timeout: START,
            started_by: StartedBy::Auto,
            record: false,
        })
    }
}
