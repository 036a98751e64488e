//! The streams that a guest opens to the outside: each is handed, unread, to whoever may read it.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use osvm_egress::hosts::Relay;
use osvm_spec::{Folder, Hosts};
use osvm_vmm::{Link, Stream};
use osvm_wire::grant::{FolderGrant, Grants, HostGrant};
use osvm_wire::{FOLDERS_PORT, HOSTS_PORT};
use tokio::io::{BufReader, copy_buf};
use tokio::net::UnixStream;

use crate::plan::Plan;
use crate::rundir::folder_socket;
use crate::vm::Activity;

/// Ports on which the guest of this plan may open streams.
pub(crate) fn ports(plan: &Plan) -> Vec<u32> {
    let hosts = plan.has_hosts_stream().then_some(HOSTS_PORT);
    hosts.into_iter().chain((0..plan.folders.len()).map(folder_port)).collect()
}

fn folder_port(number: usize) -> u32 {
    FOLDERS_PORT + u32::try_from(number).expect("a plan has few folders")
}

/// What the guest's agent is told; `None` where there is nothing to tell.
pub(crate) fn grants(plan: &Plan, user: Option<&String>) -> Option<Grants> {
    let hosts = plan.hosts.rules().map(host).collect();
    let folders = plan.folders.iter().map(folder).collect();
    let grants = Grants { hosts, folders, user: user.cloned(), record: plan.record };
    (!ports(plan).is_empty()).then_some(grants)
}

/// Numbers of those folders that are files.
pub(crate) fn files(plan: &Plan) -> Vec<u32> {
    let numbered = (0..).zip(&plan.folders);
    numbered.filter(|(_, folder)| folder.host.is_file()).map(|(number, _)| number).collect()
}

fn host(rule: &osvm_spec::HostRule) -> HostGrant {
    HostGrant { host: rule.host.to_string(), ports: rule.ports() }
}

fn folder(folder: &Folder) -> FolderGrant {
    let writable = folder.access != osvm_spec::Access::Ro;
    FolderGrant { at: folder.guest.clone(), writable }
}

/// Where streams lead.
#[derive(Clone)]
pub(crate) struct Ways {
    /// The run directory, where folders' servers listen.
    pub(crate) dir: PathBuf,
    pub(crate) hosts: Option<Outside>,
    /// A VM that is connected to a host has something to do.
    pub(crate) activity: Activity,
}

/// The way to hosts.
#[derive(Clone)]
pub(crate) struct Outside {
    relay: Arc<Relay>,
    rules: Hosts,
    /// Where each decision is noted.
    log: Arc<File>,
}

impl Outside {
    pub(crate) fn new(relay: Arc<Relay>, rules: Hosts, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        Ok(Self { relay, rules, log: Arc::new(log) })
    }
}

/// Takes streams until the link ends.
pub(crate) async fn serve(link: Link, ways: Ways) {
    while let Ok((port, stream)) = link.accept().await {
        let ways = ways.clone();
        tokio::spawn(async move {
            if let Err(error) = ways.carry(port, stream).await {
                tracing::debug!(port, %error, "a guest's stream ended");
            }
        });
    }
}

impl Ways {
    async fn carry(&self, port: u32, stream: Stream) -> io::Result<()> {
        let _work = self.activity.work();
        let host = match &self.hosts {
            Some(Outside { relay, rules, log }) if port == HOSTS_PORT => {
                relay.open(rules, log.as_fd()).await.map_err(io::Error::other)?
            }
            _ => self.folder(port).await?,
        };
        pass(stream, host).await
    }

    async fn folder(&self, port: u32) -> io::Result<UnixStream> {
        let number = port.checked_sub(FOLDERS_PORT).and_then(|number| number.try_into().ok());
        let number: usize = number.ok_or(io::ErrorKind::Unsupported)?;
        UnixStream::connect(folder_socket(&self.dir, number)).await
    }
}

/// Bytes both ways until either side hangs up. Neither closes one direction alone: what they say does that.
async fn pass(guest: Stream, host: UnixStream) -> io::Result<()> {
    const PIECE: usize = 64 * 1024;
    let (from_guest, mut to_guest) = tokio::io::split(guest);
    let (from_host, mut to_host) = host.into_split();
    let mut from_guest = BufReader::with_capacity(PIECE, from_guest);
    let mut from_host = BufReader::with_capacity(PIECE, from_host);
    let passed = tokio::select! {
        passed = copy_buf(&mut from_guest, &mut to_host) => passed,
        passed = copy_buf(&mut from_host, &mut to_guest) => passed,
    };
    passed.map(drop)
}
