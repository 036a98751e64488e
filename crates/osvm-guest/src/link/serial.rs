//! The virtio-serial port: finding it, opening the link over it, and reading and writing it without blocking.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use osvm_wire::SERIAL_PORT;
use osvm_wire::link::{Generation, GuestHandshake, GuestStep, MESSAGE_LEN, MUX_SPLIT};
use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufWriter, Interest, ReadBuf};

use super::mux;
use crate::agent::Agent;
use crate::console::say;

/// The most that one call reads from the device: its driver has room for a page at a time.
const AT_ONCE: usize = 4096;

const TO_READ: epoll::EventFlags = epoll::EventFlags::IN.union(epoll::EventFlags::ET);

/// The port's device, once the kernel knows its name and has made its node.
pub(super) fn find() -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    let has_name = |port: &PathBuf| {
        fs::read_to_string(port.join("name")).is_ok_and(|name| name.trim_end() == SERIAL_PORT)
    };
    let port = ports.flatten().map(|entry| entry.path()).find(has_name)?;
    let device = Path::new("/dev").join(port.file_name()?);
    device.exists().then_some(device)
}

/// Opens one link after the other over the port, for ever.
pub(super) async fn serve(path: &Path, agent: &Arc<Agent>) -> io::Result<()> {
    let mut port = Port::open(path)?;
    loop {
        port.await_host().await?;
        if let Err(error) = serve_link(&mut port, agent).await {
            say(format_args!("link hung up: {error}"));
        }
    }
}

/// One link, from its handshake to its hang-up.
async fn serve_link(port: &mut Port, agent: &Arc<Agent>) -> io::Result<()> {
    let rest = open_link(port).await?;
    port.unread.splice(..0, rest);
    // Whole frames leave together; what is left of one when the link hangs up is dropped with the link.
    let port = BufWriter::with_capacity(2 * MUX_SPLIT, port);
    mux::serve(port, agent).await.map_err(io::Error::other)
}

/// The guest's side of the handshake; returns the first bytes of the multiplexer.
async fn open_link(port: &mut Port) -> io::Result<Vec<u8>> {
    let mut handshake = GuestHandshake::default();
    let mut buffer = [0; 4 * MESSAGE_LEN];
    loop {
        match handshake.step(fresh()?) {
            GuestStep::More => match port.read(&mut buffer).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => handshake.push(&buffer[..count]),
            },
            GuestStep::Answer(answer) => port.write_all(&answer).await?,
            GuestStep::Refuse { answer, host_version } => {
                let ours = osvm_wire::VERSION;
                say(format_args!("host speaks protocol version {host_version}, this agent {ours}"));
                port.write_all(&answer).await?;
            }
            GuestStep::Open { rest } => return Ok(rest),
        }
    }
}

/// Random enough to differ from the generation of the link before; need not be secret, and must not wait for
/// the pool to fill.
fn fresh() -> io::Result<Generation> {
    let mut bytes = [0; 16];
    getrandom(&mut bytes[..], GetRandomFlags::INSECURE)?;
    Ok(Generation(bytes))
}

/// The open port.
///
/// While no host is connected, the port reads as ended and polls as hung up, both without pause. So what is
/// waited for is not its state but the changes of its state: an epoll instance that watches the port
/// edge-triggered, which is in turn what the runtime watches.
///
/// Under emulation a call costs more than the bytes it moves: none is made that is known to have to wait, and that
/// the host has taken what was written is no news unless somebody waits to write.
struct Port {
    device: OwnedFd,
    changes: AsyncFd<OwnedFd>,
    /// Whether reading can do anything: not once it had to wait, until the port has changed.
    may_read: bool,
    may_write: bool,
    /// Read from the device, and by nobody else yet.
    unread: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Read,
    Write,
}

impl Port {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let device = rustix::fs::open(path, flags, Mode::empty())?;
        let changes = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&changes, &device, epoll::EventData::new_u64(0), TO_READ)?;
        // SAFETY: the AsyncFd owns the descriptor, so it stays open for as long as it is registered.
        let changes = unsafe { AsyncFd::register_with_interest(changes, Interest::READABLE) }?;
        Ok(Self { device, changes, may_read: true, may_write: true, unread: Vec::new() })
    }

    /// Waits until a host is connected. A hang-up that was answered by a new connection before anybody
    /// looked goes unnoticed here; the handshake is made for that.
    async fn await_host(&mut self) -> io::Result<()> {
        while self.is_hung_up()? {
            std::future::poll_fn(|cx| self.poll_change(cx)).await?;
        }
        Ok(())
    }

    fn is_hung_up(&self) -> io::Result<bool> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut port = [PollFd::new(&self.device, PollFlags::IN)];
        poll(&mut port, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        Ok(port[0].revents().contains(PollFlags::HUP))
    }

    /// Waits until the port's state has changed since the last time.
    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut guard = ready!(self.changes.poll_read_ready(cx))?;
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.changes, &mut events[..], Some(&now))?;
        guard.clear_ready();
        if !self.may_write {
            self.watch(TO_READ)?;
        }
        (self.may_read, self.may_write) = (true, true);
        Poll::Ready(Ok(()))
    }

    fn watch(&self, events: epoll::EventFlags) -> io::Result<()> {
        Ok(epoll::modify(&self.changes, &self.device, epoll::EventData::new_u64(0), events)?)
    }

    fn poll_device(&mut self, cx: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_io(cx, Act::Read, |device| rustix::io::read(device, &mut *bytes))
    }

    /// Tries `call` until it does not have to wait any more.
    fn poll_io<T>(
        &mut self,
        cx: &mut Context<'_>,
        act: Act,
        mut call: impl FnMut(rustix::fd::BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            if !self.may(act) {
                ready!(self.poll_change(cx))?;
            }
            match call(self.device.as_fd()) {
                Err(rustix::io::Errno::AGAIN) => self.wait(act)?,
                Err(rustix::io::Errno::INTR) => {}
                done => return Poll::Ready(done.map_err(io::Error::from)),
            }
        }
    }

    fn may(&self, act: Act) -> bool {
        match act {
            Act::Read => self.may_read,
            Act::Write => self.may_write,
        }
    }

    fn wait(&mut self, act: Act) -> io::Result<()> {
        match act {
            Act::Read => self.may_read = false,
            Act::Write => {
                self.may_write = false;
                self.watch(TO_READ.union(epoll::EventFlags::OUT))?;
            }
        }
        Ok(())
    }
}

impl AsyncRead for Port {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let port = self.get_mut();
        if port.unread.is_empty() && buffer.remaining() >= AT_ONCE {
            let unfilled = buffer.initialize_unfilled();
            let count = ready!(port.poll_device(cx, &mut *unfilled))?;
            buffer.advance(count);
            return Poll::Ready(Ok(()));
        }
        if port.unread.is_empty() {
            let mut bytes = [0; AT_ONCE];
            let count = ready!(port.poll_device(cx, &mut bytes))?;
            port.unread.extend(&bytes[..count]);
        }
        let count = port.unread.len().min(buffer.remaining());
        buffer.put_slice(&port.unread[..count]);
        port.unread.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Port {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_io(cx, Act::Write, |device| rustix::io::write(device, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
