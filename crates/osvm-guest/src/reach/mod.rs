//! What the guest may reach outside, hosts and folders, by streams that the agent opens to the host.

mod call;
mod folders;
pub(crate) mod host;
pub(crate) mod hosts;

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use osvm_wire::grant::Grants;
use osvm_wire::message::Refusal;
use tokio::sync::Mutex;

use crate::process::Owner;
use crate::tries::Tries;

pub(crate) use self::call::tell;
pub(crate) use self::host::{Host, HostStream, Link, Opening};

/// Most folders: each keeps a stream to the host, and buffers.
const MAX_FOLDERS: usize = 32;

/// Streams to the host at a time, for folders and connections. The host takes 64: one is for reports, and one that
/// was just ended may count there for a moment longer.
const MAX_STREAMS: usize = 60;

/// What was granted, and the way there.
#[derive(Default)]
pub(crate) struct Reach {
    host: Host,
    told: Mutex<Option<(Told, Result<(), Refusal>)>>,
    has_folders: AtomicBool,
    environment: OnceLock<&'static [(&'static str, &'static str)]>,
    tries: OnceLock<Tries>,
}

/// The grants, and the numbers of those folders that are files.
type Told = (Grants, Vec<u32>);

impl Reach {
    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// Makes everything reachable that is granted, once. The same grants again get the same answer: a host that was
    /// started anew does not know that it has told. `etc` is the image's `/etc`.
    pub(crate) async fn grant(&self, grants: Told, etc: Option<&Path>) -> Result<(), Refusal> {
        let mut told = self.told.lock().await;
        match &*told {
            Some((earlier, outcome)) if *earlier == grants => outcome.clone(),
            Some(_) => Err(Refusal::Invalid { why: "other grants were told before".into() }),
            None => {
                let outcome = self.start(&grants, etc).await;
                *told = Some((grants, outcome.clone()));
                outcome
            }
        }
    }

    async fn start(&self, (grants, files): &Told, etc: Option<&Path>) -> Result<(), Refusal> {
        if grants.folders.len() > MAX_FOLDERS {
            let why = format!("it grants more than {MAX_FOLDERS} folders");
            return Err(Refusal::Invalid { why });
        }
        if grants.record || !grants.hosts.is_empty() {
            let connections = MAX_STREAMS - grants.folders.len();
            hosts::start(grants, &self.host, connections, etc).await?;
            self.environment.get_or_init(|| &hosts::ENVIRONMENT);
        }
        if grants.record {
            self.tries.get_or_init(|| Tries::start(grants, self.host.clone()));
        }
        if !grants.folders.is_empty() {
            self.has_folders.store(true, Ordering::Relaxed);
            let owner = Owner::find(grants.user.as_deref(), etc)?;
            folders::start((&grants.folders, files), owner, &self.host, Path::new("/")).await?;
        }
        Ok(())
    }

    pub(crate) fn has_folders(&self) -> bool {
        self.has_folders.load(Ordering::Relaxed)
    }

    /// Where it is noted what processes try, while recording.
    pub(crate) fn tries(&self) -> Option<&Tries> {
        self.tries.get()
    }

    /// What processes find in their environment unless their own says otherwise.
    pub(crate) fn environment(&self) -> &'static [(&'static str, &'static str)] {
        self.environment.get().copied().unwrap_or_default()
    }
}

fn failed<E: std::fmt::Display>(act: impl Into<String>) -> impl FnOnce(E) -> Refusal {
    move |error| Refusal::Failed { act: act.into(), why: error.to_string() }
}
