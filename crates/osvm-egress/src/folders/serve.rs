//! A share process: one folder, lent to one guest over one connection at a time, for as long as the VM lives.
//!
//! ```text
//! connection -- reader --> requests --> workers --> letter box --> writer -- connection
//! ```
//!
//! Connections come and go as daemons do. A request counts as arrived when it is queued, and is then carried
//! out once, whatever becomes of its connection; its answer waits in the letter box for the next.

mod connection;
mod desk;

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};

use osvm_spec::Access;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use thiserror::Error;

use super::folder::Folder;
use super::lent::Lent;
use super::nodes::locked;
use connection::Connection;
use desk::Desk;

/// Enough for the host's disk to be kept busy; the guest's kernel has no more requests under way in earnest.
const WORKERS: usize = 4;

/// Requests that wait for a worker. When there are so many, no more are read.
const QUEUE: usize = 16;

/// Why a folder can't be lent, or is lent no longer.
#[derive(Debug, Error)]
pub enum ServeError {
    #[error("look at the folder: {0}")]
    Look(#[source] Errno),
    #[error("wait for connections: {0}")]
    Wait(#[source] Errno),
}

/// Lends `folder` to whoever connects to `listener`, until `until` can be read or has been hung up. A new
/// connection takes the place of the one before. Nothing is opened by a path, and no connection is made.
///
/// The process should have no capabilities: with them it would read what its user may not, and not take
/// set-user bits away from files that are written.
pub fn serve(
    listener: &UnixListener,
    folder: Folder,
    access: Access,
    until: &OwnedFd,
) -> Result<(), ServeError> {
    let lent = Lent::new(folder, access).map_err(ServeError::Look)?;
    let desk = Desk::new();
    let (queue, requests) = sync_channel(QUEUE);
    let requests = Mutex::new(requests);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| work(&lent, &desk, &requests));
        }
        let mut room = Room { scope, lent: &lent, desk: &desk, queue, last: None };
        let ended = room.receive(listener, until);
        // Readers end with their connection, and workers with the last reader.
        desk.close();
        ended
    })
}

/// Carries out requests until there are no more readers.
fn work(lent: &Lent, desk: &Desk, requests: &Mutex<Receiver<Vec<u8>>>) {
    while let Some(request) = next(requests) {
        match lent.answer(&request) {
            Ok(Some(answer)) => desk.put(answer),
            Ok(None) => {}
            // It can't be answered: nobody knows which it was.
            Err(malformed) => tracing::warn!("{malformed}"),
        }
    }
}

fn next(requests: &Mutex<Receiver<Vec<u8>>>) -> Option<Vec<u8>> {
    locked(requests).recv().ok()
}

struct Room<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    lent: &'env Lent,
    desk: &'env Desk,
    queue: SyncSender<Vec<u8>>,
    last: Option<ScopedJoinHandle<'scope, ()>>,
}

impl Room<'_, '_> {
    fn receive(&mut self, listener: &UnixListener, until: &OwnedFd) -> Result<(), ServeError> {
        loop {
            let mut events =
                [PollFd::new(listener, PollFlags::IN), PollFd::new(until, PollFlags::IN)];
            match poll(&mut events, None) {
                Err(Errno::INTR) => continue,
                ready => ready.map_err(ServeError::Wait)?,
            };
            if !events[1].revents().is_empty() {
                return Ok(());
            }
            match listener.accept() {
                Ok((stream, _)) => self.take(stream),
                Err(error) => tracing::warn!("accept a connection: {error}"),
            }
        }
    }

    /// The one before ends first: what it has read has then arrived.
    fn take(&mut self, stream: UnixStream) {
        let turn = self.desk.next_turn(&stream);
        let before = self.last.take();
        let (lent, desk, queue) = (self.lent, self.desk, self.queue.clone());
        let connection = move || {
            if let Some(before) = before {
                // It has said itself what went wrong.
                let _ = before.join();
            }
            match turn {
                Ok(turn) => Connection { stream, turn, lent, desk, queue }.serve(),
                Err(error) => tracing::warn!("take a connection: {error}"),
            }
        };
        self.last = Some(self.scope.spawn(connection));
    }
}
