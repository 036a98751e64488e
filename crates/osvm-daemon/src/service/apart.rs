//! Calls of tools that have a VM of their own for each: made as `osvm mcp call` makes them, whoever asks for them, beside
//! each other and beside the session.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use osvm_mcp::{Apart as Handed, McpError, Unmade};
use osvm_spec::{Overrides, Secrets, ServerName, ToolLimits};
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::Daemon;
use super::guest::Need;
use super::place::Place;
use super::servers;
use crate::api::{ApiError, CallRequest, ErrorKind};

/// What each such VM of one client's is made of.
pub(super) struct Apart {
    pub(super) daemon: Arc<Daemon>,
    /// Also where the client's own VM has another name.
    pub(super) server: ServerName,
    pub(super) overrides: Overrides,
    pub(super) secrets: Secrets,
}

/// One client's calls. They end with this, and their VMs with them.
pub(super) struct Calls {
    apart: Arc<Apart>,
    /// What was cancelled has its place until its call is given up.
    room: Arc<Semaphore>,
    making: Mutex<JoinSet<()>>,
    /// Where each is made, by its number, until it is recorded.
    places: Mutex<BTreeMap<u64, Place>>,
    made: mpsc::UnboundedSender<Made>,
}

/// What became of one.
pub(super) struct Made {
    pub(super) number: u64,
    pub(super) result: Result<Box<RawValue>, Unmade>,
}

impl Calls {
    /// And where it is told what becomes of them.
    pub(super) fn new(apart: Apart) -> (Self, mpsc::UnboundedReceiver<Made>) {
        // The guard lets few be open.
        let (made, told) = mpsc::unbounded_channel();
        let calls = Self {
            apart: Arc::new(apart),
            room: Arc::new(Semaphore::new(Handed::MOST)),
            making: Mutex::default(),
            places: Mutex::default(),
            made,
        };
        (calls, told)
    }

    pub(super) fn daemon(&self) -> &Daemon {
        &self.apart.daemon
    }

    /// Has one made, unless nobody waits for it any more.
    pub(super) fn begin(&self, call: Handed, limits: ToolLimits) {
        let Handed { number, tool, arguments, wanted } = call;
        let place = Place::default();
        lock(&self.places).insert(number, place.clone());
        let (apart, room, made) =
            (Arc::clone(&self.apart), Arc::clone(&self.room), self.made.clone());
        let work = async move {
            let _place = room.acquire().await;
            apart.make(&tool, arguments, &place, |usual| limits.within(usual)).await
        };
        let mut making = lock(&self.making);
        while making.try_join_next().is_some() {}
        making.spawn(async move {
            tokio::select! {
                biased;
                _ = wanted => {}
                result = work => drop(made.send(Made { number, result })),
            }
        });
    }

    /// Where one was made that is over.
    pub(super) fn left(&self, number: u64) -> Place {
        lock(&self.places).remove(&number).unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Apart {
    /// One call, with the VM's start. The VM ends with it, also when this is dropped.
    async fn make(
        &self,
        tool: &str,
        arguments: Box<RawValue>,
        place: &Place,
        limit: impl FnOnce(Duration) -> Duration,
    ) -> Result<Box<RawValue>, Unmade> {
        let request = CallRequest {
            tool: tool.to_owned(),
            arguments,
            timeout_seconds: None,
            confirmed: true,
            overrides: self.overrides.clone(),
            secrets: self.secrets.clone(),
        };
        let whose = (&self.server, Need::Apart(tool));
        match servers::make(&self.daemon, whose, request, place, limit).await.map_err(unmade)? {
            Ok(outcome) => Ok(outcome.result),
            Err(McpError::Rpc(error)) => Err(Unmade::Error(error.spelled)),
            Err(error) => Err(unmade(error.into())),
        }
    }
}

fn unmade(ApiError { kind, message, .. }: ApiError) -> Unmade {
    match kind {
        ErrorKind::ToolError => Unmade::Misfit(message),
        ErrorKind::Refused => Unmade::Refused(message),
        ErrorKind::TimedOut => Unmade::TimedOut(message),
        ErrorKind::Failed | ErrorKind::Usage | ErrorKind::NoSuch | ErrorKind::Unavailable => {
            Unmade::Failed(message)
        }
    }
}
