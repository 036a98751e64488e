//! Notices connections to granted names on ports that are not granted, and while recording those to anywhere. The
//! kernel refuses them by itself; here only the host is told.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, ipproto, recv, socket_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Hosts;

/// Enough of a packet for both headers.
const HEADERS: usize = 80;

pub(super) fn start(hosts: &Arc<Hosts>) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kind = SocketType::RAW;
    let socket = socket_with(AddressFamily::INET, kind, flags, Some(ipproto::TCP))?;
    let filter = first_packets_to_names();
    let filter = if hosts.record { &filter[TO_NAMES..] } else { &filter[..] };
    attach(socket.as_fd(), filter)?;
    // SAFETY: the AsyncFd owns the descriptor, so it stays open for as long as it is registered.
    let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
    tokio::spawn(watch(Arc::clone(hosts), socket));
    Ok(())
}

async fn watch(hosts: Arc<Hosts>, socket: AsyncFd<OwnedFd>) {
    let mut packet = [0; HEADERS];
    loop {
        let receive = |socket: &OwnedFd| {
            let (received, _) = recv(socket, &mut packet[..], RecvFlags::empty())?;
            Ok(received)
        };
        let Ok(count) = socket.async_io(Interest::READABLE, receive).await else { return };
        if let Some((address, port)) = destination(&packet[..count.min(HEADERS)]) {
            hosts.knocked(address, port);
        }
    }
}

/// Where an IPv4 packet with TCP inside goes.
fn destination(packet: &[u8]) -> Option<(Ipv4Addr, u16)> {
    let tcp = usize::from(packet.first()? & 0x0F) * 4;
    let address: &[u8; 4] = packet.get(16..)?.first_chunk()?;
    let port: &[u8; 2] = packet.get(tcp..)?.get(2..)?.first_chunk()?;
    Some(((*address).into(), u16::from_be_bytes(*port)))
}

/// How many steps of the filter look at the destination. Those that follow do without them.
const TO_NAMES: usize = 3;

/// A filter that passes packets to 198.18.0.0/15 that have SYN and not ACK set, so that what servers say to each other
/// does not wake the agent. Offsets count from the IP header.
fn first_packets_to_names() -> [libc::sock_filter; 9] {
    use libc::{
        BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_IND, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_LDX,
        BPF_MSH, BPF_RET, BPF_W,
    };
    let step = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let unless_equal = |k: u32, skip: u8| libc::sock_filter {
        code: (BPF_JMP | BPF_JEQ | BPF_K) as u16,
        jt: 0,
        jf: skip,
        k,
    };
    const SYN_AND_ACK: u32 = 0x12;
    const SYN: u32 = 0x02;
    let network = u32::from(Ipv4Addr::new(198, 18, 0, 0));
    [
        step(BPF_LD | BPF_W | BPF_ABS, 16),
        step(BPF_ALU | BPF_AND | BPF_K, u32::MAX << 17),
        unless_equal(network, 5),
        step(BPF_LDX | BPF_B | BPF_MSH, 0),
        step(BPF_LD | BPF_B | BPF_IND, 13),
        step(BPF_ALU | BPF_AND | BPF_K, SYN_AND_ACK),
        unless_equal(SYN, 1),
        step(BPF_RET | BPF_K, HEADERS as u32),
        step(BPF_RET | BPF_K, 0),
    ]
}

fn attach(socket: BorrowedFd<'_>, filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads a sock_fprog, whose size is given, and the `len` steps that it points to; both
    // outlive the call, and it writes neither.
    let attached = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if attached == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_tells_where_it_goes_even_with_options() {
        let mut packet = vec![0; 44];
        packet[0] = 0x46;
        packet[16..20].copy_from_slice(&[198, 18, 1, 2]);
        packet[26..28].copy_from_slice(&443u16.to_be_bytes());
        assert_eq!(destination(&packet), Some(([198, 18, 1, 2].into(), 443)));
        assert_eq!(destination(&packet[..27]), None);
        assert_eq!(destination(&[]), None);
    }
}
