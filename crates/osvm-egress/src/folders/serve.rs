//! A share process: one folder, lent to one guest over one connection at a time, for as long as the VM lives.
//!
//! ```text
//! connection -- one worker at a time reads --> lent -- answer --> letter box -- one at a time sends -- connection
//! ```
//!
//! Connections come and go as daemons do. A request counts as arrived when it was read, and is then carried
//! out once, whatever becomes of its connection; its answer waits in the letter box for the next.

mod connection;
mod desk;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::thread::{self, Scope};

use osvm_spec::Access;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use thiserror::Error;

use super::folder::Folder;
use super::lent::Lent;
use connection::Greeting;
use desk::Desk;

/// Enough for the host's disk to be kept busy; the guest's kernel has no more requests under way in earnest.
const WORKERS: usize = 4;

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
    let desk = Desk::default();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| work(&lent, &desk));
        }
        let ended = receive(scope, listener, until, (&lent, &desk));
        desk.close();
        ended
    })
}

/// Carries out requests, on whatever connection they come, until the desk is closed.
fn work(lent: &Lent, desk: &Desk) {
    while let Some(connection) = desk.connection() {
        match connection.next_request(desk) {
            Ok(Some(request)) => match lent.answer(&request) {
                Ok(Some(answer)) => desk.put(answer),
                Ok(None) => {}
                // It can't be answered: nobody knows which it was.
                Err(malformed) => tracing::warn!("{malformed}"),
            },
            Ok(None) => {}
            Err(broken) => {
                broken.report();
                desk.end_turn(connection.turn);
            }
        }
    }
}

fn receive<'scope>(
    scope: &'scope Scope<'scope, '_>,
    listener: &UnixListener,
    until: &OwnedFd,
    (lent, desk): (&'scope Lent, &'scope Desk),
) -> Result<(), ServeError> {
    loop {
        let mut events = [PollFd::new(listener, PollFlags::IN), PollFd::new(until, PollFlags::IN)];
        match poll(&mut events, None) {
            Err(Errno::INTR) => continue,
            ready => ready.map_err(ServeError::Wait)?,
        };
        if !events[1].revents().is_empty() {
            return Ok(());
        }
        let accepted = listener.accept().and_then(|(stream, _)| {
            let turn = desk.next_turn(&stream)?;
            Ok(Greeting { stream, turn })
        });
        match accepted {
            Ok(greeting) => {
                scope.spawn(|| greet(greeting, lent, desk));
            }
            Err(error) => tracing::warn!("accept a connection: {error}"),
        }
    }
}

/// Apart from the others: whoever has connected may be long in saying what for.
fn greet(greeting: Greeting, lent: &Lent, desk: &Desk) {
    let turn = greeting.turn;
    match greeting.exchange(lent, desk) {
        Ok(Some(connection)) => desk.begin(connection),
        Ok(None) => desk.end_turn(turn),
        Err(broken) => {
            broken.report();
            desk.end_turn(turn);
        }
    }
}
