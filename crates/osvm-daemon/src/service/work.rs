//! `POST /v1/work`: one command in a VM of its own, which ends with it.

use axum::extract::{Request, State};
use axum::response::Response;
use osvm_fleet::{Plan, Purpose, StartedBy};
use osvm_spec::{Config, ImageRef, Overrides, Secrets};

use super::upgrade::accept;
use super::{Daemon, Shared, exec};
use crate::api::{ApiError, WorkRequest};

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
    /// What holds for every VM, and for no server: one of the same name is another matter.
    fn worker(&self, request: WorkRequest) -> Result<Plan, ApiError> {
        let config = Config { servers: Vec::new(), ..(*self.config()?).clone() };
        let over = Overrides {
            memory_mb: Some(request.memory_mb),
            vcpus: Some(request.vcpus),
            image: Some(ImageRef::Digest(request.image)),
            hosts: request.hosts,
            // The VM is the user's for as long as it lives, and packages install as root does.
            user: Some("root".to_owned()),
            ..Overrides::default()
        };
        let server = self.resolve_in(&config, &"build".parse().expect("it is a name"), &over)?;
        let plan = self.plan(server, Secrets::default(), StartedBy::Auto)?;
        Ok(Plan { purpose: Purpose::Work, ..plan })
    }
}
