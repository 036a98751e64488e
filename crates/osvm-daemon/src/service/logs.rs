//! `GET /v1/vms/{name}/logs`: the logs of a VM that runs, or of the one that ran last.

use std::io;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use futures::stream;
use osvm_fleet::Vm;
use osvm_fleet::logs::Kept;
use osvm_mcp::Client;
use osvm_spec::ServerName;
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::Shared;
use crate::api::{ApiError, ErrorKind, LogSource, LogsQuery};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(100);

pub(super) async fn read(
    State(daemon): Shared,
    Path(name): Path<ServerName>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, ApiError> {
    let vm = daemon.fleet.get(&name).filter(|vm| !vm.state().is_end());
    let running = vm.as_ref().and_then(|vm| Some(vm.facts()?.run_dir.join("logs")));
    let kept = || Kept::new(&daemon.home.logs(), &name).latest();
    let folder = running.or_else(kept).ok_or_else(|| no_logs(&name))?;
    let follow = vm.filter(|_| query.follow);
    Ok(Body::from_stream(contents(&folder, query.source, follow)).into_response())
}

fn no_logs(name: &ServerName) -> ApiError {
    ApiError::new(ErrorKind::NoSuch, format!("server {name} has no VM and no logs of one"))
        .hint("osvm mcp microvm status")
}

/// The rotated file, then the current one, then what is added to it while `follow` lives.
fn contents(
    folder: &FilePath,
    source: LogSource,
    follow: Option<Arc<Vm<Client>>>,
) -> impl futures::Stream<Item = io::Result<Bytes>> + use<> {
    let current = folder.join(file_name(source));
    let rotated = current.with_extension("log.1");
    let reading = Reading { files: vec![current, rotated], open: None, follow };
    stream::try_unfold(reading, |mut reading| async move {
        Ok(reading.next().await?.map(|bytes| (bytes, reading)))
    })
}

fn file_name(source: LogSource) -> &'static str {
    match source {
        LogSource::Console => "console.log",
        LogSource::Vmm => "vmm.log",
        LogSource::Egress => "egress.log",
        LogSource::Agent => "agent.log",
        LogSource::Server => "server.log",
    }
}

struct Reading {
    /// Still to be read, the next one last.
    files: Vec<PathBuf>,
    open: Option<File>,
    follow: Option<Arc<Vm<Client>>>,
}

impl Reading {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let count = match self.open.as_mut() {
                Some(file) => file.read(&mut buffer).await?,
                None => 0,
            };
            if count > 0 {
                buffer.truncate(count);
                return Ok(Some(buffer.into()));
            }
            if !self.advance().await? {
                return Ok(None);
            }
        }
    }

    /// Goes on to the next file, or waits for the last one to grow. False at the end.
    async fn advance(&mut self) -> io::Result<bool> {
        if let Some(path) = self.files.last() {
            match File::open(path).await {
                Ok(file) => self.open = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if self.files.len() == 1 && self.grows() {
                        tokio::time::sleep(LOOK).await;
                        return Ok(true);
                    }
                }
                Err(error) => return Err(error),
            }
            self.files.pop();
            return Ok(true);
        }
        let grows = self.grows();
        if grows {
            tokio::time::sleep(LOOK).await;
        }
        Ok(grows)
    }

    fn grows(&self) -> bool {
        self.follow.as_ref().is_some_and(|vm| !vm.state().is_end())
    }
}
