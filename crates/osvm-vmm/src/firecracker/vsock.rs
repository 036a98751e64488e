//! The link over Firecracker's vsock. A stream to the guest is a connection to one Unix socket,
//! opened with a line of text; a stream from the guest comes to a socket that has the port in its
//! name.
//!
//! Such streams know no half-close: see [`NoHalfClose`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use osvm_wire::AGENT_PORT;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, OwnedMutexGuard, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::half::NoHalfClose;
use super::workplace::Workplace;
use crate::link::{ACCEPT_QUEUE, MAX_ACCEPTED, MAX_OPENED, Transport, end_with};
use crate::{Link, LinkError, Process, Stream};

/// The socket's name in the workplace; guest ports are `v.sock_PORT` beside it.
pub(super) const SOCKET: &str = "v.sock";

/// How soon a guest whose agent does not listen yet is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// Longest answer to a CONNECT: `OK `, a port and a line feed.
const MAX_ANSWER: usize = 32;

/// Waits until the guest's agent listens.
pub(super) async fn connect(
    workplace: &Workplace,
    guest_ports: &[u32],
    process: &Process,
    place: OwnedMutexGuard<()>,
) -> Result<Link, LinkError> {
    let socket = workplace.path(SOCKET);
    let first = wait_for_agent(&socket, process).await?;
    let closed = CancellationToken::new();
    let (accepted, incoming) = mpsc::channel(ACCEPT_QUEUE);
    let places = Arc::new(Semaphore::new(MAX_ACCEPTED));
    let held = Arc::new(place);
    for &port in guest_ports {
        let (places, accepted) = (Arc::clone(&places), accepted.clone());
        let door = Door { port, places, accepted, closed: closed.clone() };
        let path = workplace.path(&format!("{SOCKET}_{port}"));
        let listener = listen(workplace, &path)?;
        tokio::spawn(door.accept(listener, path, Arc::clone(&held)));
    }
    end_with(process.clone(), closed.clone(), held);
    let transport = Vsock {
        socket,
        first: Mutex::new(Some(first)),
        places: Arc::new(Semaphore::new(MAX_OPENED)),
        closed: closed.clone(),
    };
    Ok(Link::new(closed, Box::new(transport), incoming))
}

struct Vsock {
    socket: PathBuf,
    /// The connection by which the agent was found to listen: the first stream to its port.
    first: Mutex<Option<UnixStream>>,
    places: Arc<Semaphore>,
    closed: CancellationToken,
}

#[async_trait]
impl Transport for Vsock {
    async fn open(&self, port: u32) -> Result<Stream, LinkError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| LinkError::TooMany { port, limit: MAX_OPENED })?;
        let first = if port == AGENT_PORT { self.first.lock().await.take() } else { None };
        let socket = match first {
            Some(socket) => socket,
            None => dial(&self.socket, port).await?,
        };
        Ok(Stream::new(NoHalfClose::new(socket), &self.closed).in_place(place))
    }
}

async fn wait_for_agent(socket: &Path, process: &Process) -> Result<UnixStream, LinkError> {
    loop {
        let dialled = dial(socket, AGENT_PORT).await;
        if process.try_exited().is_some() {
            return Err(LinkError::Ended);
        }
        match dialled {
            Err(LinkError::Refused { .. }) => tokio::time::sleep(RETRY).await,
            dialled => return dialled,
        }
    }
}

/// Firecracker closes the connection instead of answering when nobody in the guest listens.
async fn dial(socket: &Path, port: u32) -> Result<UnixStream, LinkError> {
    let unreachable = |source| LinkError::Unreachable { socket: socket.to_owned(), source };
    let mut stream = UnixStream::connect(socket).await.map_err(unreachable)?;
    match ask(&mut stream, port).await {
        Ok(answer) if answer.starts_with(b"OK ") => Ok(stream),
        Ok(_) | Err(_) => Err(LinkError::Refused { port }),
    }
}

async fn ask(stream: &mut UnixStream, port: u32) -> io::Result<Vec<u8>> {
    stream.write_all(format!("CONNECT {port}\n").as_bytes()).await?;
    let mut answer = Vec::new();
    // By single bytes: what follows the line belongs to the stream.
    while answer.len() < MAX_ANSWER && !answer.ends_with(b"\n") {
        answer.push(stream.read_u8().await?);
    }
    Ok(answer)
}

/// Asks whatever is at the other end for a port, for the fuzzing crate.
pub async fn fuzz(mut socket: UnixStream) -> Option<Vec<u8>> {
    ask(&mut socket, AGENT_PORT).await.ok()
}

/// Takes in the streams that the guest opens to one port.
struct Door {
    port: u32,
    places: Arc<Semaphore>,
    accepted: mpsc::Sender<(u32, Stream)>,
    closed: CancellationToken,
}

impl Door {
    /// Until the link is closed. The socket's file is gone before `held` is dropped.
    async fn accept(self, listener: UnixListener, path: PathBuf, held: impl Send) {
        loop {
            tokio::select! {
                () = self.closed.cancelled() => break,
                socket = listener.accept() => match socket {
                    Ok((socket, _)) => self.let_in(socket),
                    Err(error) => {
                        tracing::warn!(%error, port = self.port, "guest port failed");
                        break;
                    }
                },
            }
        }
        remove(&path);
        drop(held);
    }

    /// One stream too many is dropped, which resets it.
    fn let_in(&self, socket: UnixStream) {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            let stream = Stream::new(NoHalfClose::new(socket), &self.closed).in_place(place);
            let _ = self.accepted.try_send((self.port, stream));
        }
    }
}

/// Replaces the file that a daemon which died has left.
fn listen(workplace: &Workplace, path: &Path) -> Result<UnixListener, LinkError> {
    remove(path);
    let listener = UnixListener::bind(path);
    let ours = listener.and_then(|listener| workplace.hand_over(path).map(|()| listener));
    ours.map_err(|source| LinkError::GuestPort { socket: path.to_owned(), source })
}

fn remove(path: &Path) {
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "socket could not be removed");
    }
}
