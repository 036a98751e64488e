//! Recorded launches: a VM of its own, and what its server needed, told when the VM has ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{Stream, StreamExt, stream};
use osvm_fleet::StartedBy;
use osvm_fleet::logs::Kept;
use osvm_spec::{Secrets, Server, ServerName};

use super::Daemon;
use super::vms::{Guest, events};
use crate::api::{ApiError, LaunchEvent};
use crate::policy::{self, Evidence, Mentions, OnHost, Policy};

/// Most of a log that is read.
const LONGEST: u64 = 8 << 20;

/// What servers that are recorded say, by the names of their VMs.
#[derive(Default)]
pub(super) struct Recordings(Arc<Mutex<BTreeMap<ServerName, Mentions>>>);

/// Takes what a server says, piece by piece.
pub(super) type Listener = Box<dyn FnMut(&[u8]) + Send>;

/// Starts the VM. It ends when the stream is dropped, and the stream ends after it.
pub(super) async fn start(
    daemon: Arc<Daemon>,
    server: Server,
    secrets: Secrets,
) -> Result<impl Stream<Item = LaunchEvent> + Send, ApiError> {
    let mut plan = daemon.plan(server, secrets, StartedBy::Auto)?;
    plan.record = true;
    let alone = daemon.set_apart(&mut plan);
    daemon.recordings.begin(&plan.name);
    let launch = daemon.fleet.launch(plan).await.inspect_err(|_| {
        daemon.recordings.end(&alone.name);
    })?;
    let vm = Arc::clone(launch.vm());
    // In use all the time: nobody but its client may find it idle.
    let visit = vm.visit();
    let end = {
        let daemon = Arc::clone(&daemon);
        async move {
            let (_alone, _visit) = (alone, visit);
            vm.ended().await;
            LaunchEvent::Recorded { policy: Box::new(daemon.policy(&vm)) }
        }
    };
    Ok(events(daemon, launch).chain(stream::once(end)))
}

impl Daemon {
    /// What a recorded VM's server needed.
    fn policy(&self, vm: &Guest) -> Policy {
        let (plan, facts) = (&vm.plan, vm.facts());
        let logs = Kept::new(&self.home.logs(), plan.server()).of(vm.id.as_str());
        let env = facts.map_or_else(|| plan.env.clone(), |facts| facts.env);
        let secrets = plan.secrets.pairs().map(|(name, _)| name.as_str());
        let evidence = Evidence {
            hosts: &plan.hosts,
            folders: &plan.folders,
            variables: env.iter().map(|(name, _)| name.as_str()).chain(secrets).collect(),
            egress: &text(&logs.join("egress.log")),
            stderr: &(text(&logs.join("server.log.1")) + &text(&logs.join("server.log"))),
            mentions: &self.recordings.end(&plan.name),
        };
        policy::least(&evidence, on_host)
    }
}

/// Empty where there is none.
fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
    read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
}

fn on_host(path: &Path) -> OnHost {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => OnHost::Folder,
        Ok(found) if found.is_file() => OnHost::File,
        Ok(_) => OnHost::Other,
        Err(_) => OnHost::Nothing,
    }
}

impl Recordings {
    fn begin(&self, name: &ServerName) {
        self.all().insert(name.clone(), Mentions::default());
    }

    /// What a server answered; nothing of one that is not recorded.
    pub(super) fn hear(&self, name: &ServerName, text: impl FnOnce() -> String) {
        if let Some(mentions) = self.all().get_mut(name) {
            mentions.hear(text().as_bytes());
            mentions.hear(b"\n");
        }
    }

    /// For all that one session of the server says; none if it is not recorded.
    pub(super) fn listener(&self, name: &ServerName) -> Option<Listener> {
        self.all().get(name)?;
        let (recordings, name) = (Self(Arc::clone(&self.0)), name.clone());
        Some(Box::new(move |piece| {
            if let Some(mentions) = recordings.all().get_mut(&name) {
                mentions.hear(piece);
            }
        }))
    }

    fn end(&self, name: &ServerName) -> Mentions {
        self.all().remove(name).unwrap_or_default()
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<ServerName, Mentions>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
