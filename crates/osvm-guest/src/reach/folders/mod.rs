//! Folders, and single files: mounted here by FUSE, served by the host.

mod ahead;
mod device;
mod point;
mod pump;
mod tally;
#[cfg(test)]
mod tests;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use osvm_wire::grant::FolderGrant;
use osvm_wire::message::Refusal;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use self::device::Device;
use self::point::{Place, Thing};
use self::pump::{Folder, pump};
use super::failed;
use super::host::Host;
use crate::console::{chain, say};
use crate::process::Owner;

/// How long it may take until programs can use a folder.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Mounts all folders below `root`, and returns once programs can use them. Those with the numbers `files` are files.
pub(super) async fn start(
    (grants, files): (&[FolderGrant], &[u32]),
    owner: Owner,
    host: &Host,
    root: &'static Path,
) -> Result<(), Refusal> {
    let numbered = grants.iter().enumerate();
    let mut folders: Vec<_> = numbered.map(|(number, grant)| (number as u32, grant)).collect();
    folders.sort_by_key(|(_, grant)| point::depth(&grant.at));
    for (number, grant) in folders {
        let folder = Folder { number, uid: owner.uid, gid: owner.gid };
        let thing = if files.contains(&number) { Thing::File } else { Thing::Folder };
        let place = Place { root, at: grant.at.clone(), thing };
        let started = start_one(place, grant.writable, folder, host);
        let started = tokio::time::timeout(READY_WITHIN, started);
        let late = || format!("the host did not serve it within {} s", READY_WITHIN.as_secs());
        let started = started.await.unwrap_or_else(|_| Err(late()));
        started.map_err(failed(format!("mount {}", grant.at)))?;
    }
    Ok(())
}

async fn start_one(
    place: Place,
    writable: bool,
    folder: Folder,
    host: &Host,
) -> Result<(), String> {
    let device = mount(place.clone(), writable).await?;
    let device = Device::new(device).map_err(|error| error.to_string())?;
    let (ready, is_ready) = oneshot::channel();
    let (host, at) = (host.clone(), place.at.clone());
    let pumping = AbortOnDropHandle::new(tokio::spawn(async move {
        let error = chain(&pump(folder, device, host, ready).await);
        say(format_args!("folder {at} is gone: {error}"));
        error
    }));
    match is_ready.await {
        Ok(()) => {
            pumping.detach();
            read_ahead(place).await;
            Ok(())
        }
        Err(_) => Err(pumping.await.unwrap_or_default()),
    }
}

/// Not here: the place may lie in another folder, whose messages this thread carries.
async fn mount(place: Place, writable: bool) -> Result<OwnedFd, String> {
    let mount = move || Device::mount(&place, writable);
    let mounted = spawn_blocking(mount).await.map_err(|error| error.to_string())?;
    mounted.map_err(|error| chain(&error))
}

/// A folder is of use without it.
async fn read_ahead(place: Place) {
    let at = place.at.clone();
    if let Ok(Err(error)) = spawn_blocking(move || ahead::set(&place)).await {
        say(format_args!("failed to have more of {at} read ahead: {error}"));
    }
}
