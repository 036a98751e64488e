//! The virtio socket: a listener on the agent's port and connections to the host's, one for each stream.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use osvm_wire::AGENT_PORT;
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, ioctl};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketFlags, SocketType, acceptfrom_with, bind, connect, listen,
    socket_with, sockopt,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::boxed;
use crate::agent::Agent;
use crate::reach::{HostStream, Link, Opening};

/// `_IO(7, 0xb9)`, vsock(7): this machine's own address.
const IOCTL_VM_SOCKETS_GET_LOCAL_CID: Opcode = 0x07b9;

const ANYBODY: u32 = u32::MAX;
const HOST: u32 = 2;

const BACKLOG: i32 = 64;

/// Whether there is a device that leads to a host. The socket family may exist without one.
pub(super) fn is_there() -> bool {
    local_address().is_ok_and(|address| address != ANYBODY && address > HOST)
}

fn local_address() -> io::Result<u32> {
    let device = File::open("/dev/vsock")?;
    // SAFETY: this request writes one unsigned int, which is what the getter makes room for.
    Ok(unsafe { ioctl(device, Getter::<IOCTL_VM_SOCKETS_GET_LOCAL_CID, u32>::new()) }?)
}

/// Serves every stream the host opens, for ever.
pub(super) async fn serve(agent: &Arc<Agent>) -> io::Result<()> {
    let listener = open(AGENT_PORT)?;
    let _linked = agent.host().linked(Vsock);
    // SAFETY: the AsyncFd owns the descriptor, so it stays open for as long as it is registered.
    let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }?;
    loop {
        match listener.async_io(Interest::READABLE, accept).await {
            Ok(Some(stream)) => {
                let stream = tokio::net::UnixStream::from_std(stream)?;
                tokio::spawn(Arc::clone(agent).serve(boxed(stream)));
            }
            // A process of the guest may connect as well, and must not be taken for the host.
            Ok(None) => {}
            // The host let go before anybody took it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Always there: only the streams come and go.
struct Vsock;

impl Link for Vsock {
    fn open(&self, port: u32) -> Opening {
        Box::pin(async move { Ok(Box::new(connect_to(port).await?) as HostStream) })
    }
}

async fn connect_to(port: u32) -> io::Result<tokio::net::UnixStream> {
    let socket = socket()?;
    match connect(&socket, &Address::new(HOST, port)) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno.into()),
    }
    // Not a Unix socket, but a stream socket all the same.
    let stream = tokio::net::UnixStream::from_std(UnixStream::from(socket))?;
    stream.writable().await?;
    sockopt::socket_error(&stream)??;
    Ok(stream)
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)?)
}

fn open(port: u32) -> io::Result<OwnedFd> {
    let socket = socket()?;
    bind(&socket, &Address::new(ANYBODY, port))?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// The next connection; `None` for one that does not come from the host.
fn accept(listener: &OwnedFd) -> io::Result<Option<UnixStream>> {
    let (socket, peer) = acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let from_host = peer.is_some_and(|peer| is_host(&peer));
    // Not a Unix socket, but a stream socket all the same, which is all that reading and writing needs.
    Ok(from_host.then(|| UnixStream::from(socket)))
}

fn is_host(peer: &SocketAddrAny) -> bool {
    if peer.address_family() != AddressFamily::VSOCK
        || (peer.addr_len() as usize) < size_of::<Address>()
    {
        return false;
    }
    // SAFETY: the family says that this is a sockaddr_vm, the length that all of it is there, and the
    // storage it stands in is aligned for every address.
    let address = unsafe { &*peer.as_ptr().cast::<Address>() };
    address.cid == HOST
}

/// The kernel's `struct sockaddr_vm`.
#[repr(C)]
struct Address {
    family: u16,
    reserved: u16,
    port: u32,
    cid: u32,
    zero: [u8; 4],
}

impl Address {
    fn new(cid: u32, port: u32) -> Self {
        Self { family: AddressFamily::VSOCK.as_raw(), reserved: 0, port, cid, zero: [0; 4] }
    }
}

// SAFETY: `Address` is laid out as a sockaddr_vm, which is what the kernel expects for its family, and the
// pointer is good for its whole size during the call.
unsafe impl SocketAddrArg for Address {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        f(std::ptr::from_ref(self).cast(), size_of::<Self>() as SocketAddrLen)
    }
}
