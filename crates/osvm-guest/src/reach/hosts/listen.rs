//! Listeners where programs connect to: on a fake address for each name, and on granted addresses themselves.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::Hosts;
use super::connect::{carry, reset};
use super::net::Net;
use crate::netlink;

/// Connections that wait for a place, on each listener.
const BACKLOG: u32 = 128;

/// A network of more addresses than this has one listener for all of them.
const FEW: u128 = 256;

/// Pause after a failed accept, which comes from a shortage and passes.
const PAUSE: Duration = Duration::from_millis(50);

/// A listener on this address only, so that servers of the guest are not in its way.
pub(super) fn listen(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
        // Of version 6 a route makes an address local, but not one that may be bound.
        sockopt::set_ipv6_freebind(&socket, true)?;
    }
    socket.bind(SocketAddr::new(address, port))?;
    socket.listen(BACKLOG)
}

/// Makes a granted network local and listens there.
pub(super) fn open_net(net: Net, ports: &[u16]) -> io::Result<Vec<TcpListener>> {
    netlink::make_local(net.address, net.prefix)?;
    let addresses = net.few(FEW).unwrap_or_else(|| vec![unspecified(net.address)]);
    let pairs = addresses.iter().flat_map(|address| ports.iter().map(|port| (*address, *port)));
    // Grants may overlap: what is taken is taken by a listener of this agent, and no server runs yet.
    let opened = pairs.map(|(address, port)| listen(address, port));
    opened.filter(|opened| !is_taken(opened)).collect()
}

pub(super) fn is_taken(opened: &io::Result<TcpListener>) -> bool {
    opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// Whether a network has one listener for all its addresses.
pub(super) fn is_large(net: &Net) -> bool {
    net.few(FEW).is_none()
}

fn unspecified(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Takes connections for ever. One that there is no place for waits, and those behind it in the kernel.
pub(super) async fn serve(hosts: Arc<Hosts>, listener: TcpListener) {
    loop {
        let Ok((inside, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Some((host, port)) = meant(&hosts, &inside) else {
            reset(inside);
            continue;
        };
        let Some(place) = hosts.connector.place().await else { return };
        let hosts = Arc::clone(&hosts);
        tokio::spawn(async move {
            let _place = place;
            match hosts.connector.connect(&host, port).await {
                Ok(outside) => carry(outside, inside, b"").await,
                Err(_) => reset(inside),
            }
        });
    }
}

/// The name or address that was connected to; none if that is not granted on this port. A listener for a large network
/// gets what is meant for anybody, and some of it for names.
fn meant(hosts: &Hosts, inside: &TcpStream) -> Option<(String, u16)> {
    let local = inside.local_addr().ok()?;
    let host = hosts.host_at(local.ip());
    hosts.allowed.ports(&host).contains(&local.port()).then_some((host, local.port()))
}
