//! The one interface there is, `lo`: its state, its addresses and what counts as local (rtnetlink(7)).

use std::io;
use std::net::IpAddr;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

/// `NETLINK_ROUTE` is protocol 0, the default.
const ROUTE: Option<Protocol> = None;

/// Interface 1 is always `lo`.
const LO: u32 = 1;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;

const REQUEST_AND_ACK: u16 = 1 | 4;
const CREATE_OR_REPLACE: u16 = 0x400 | 0x100;

/// Sets `lo` up, which also gives it 127.0.0.1 and ::1.
pub(crate) fn loopback_up() -> io::Result<()> {
    const IFF_UP: u32 = 1;
    let mut body = vec![0; 4];
    body.extend(LO.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    body.extend(IFF_UP.to_ne_bytes());
    ask(RTM_NEWLINK, REQUEST_AND_ACK, &body)
}

/// Gives `lo` an address, as `ip address add ADDRESS/PREFIX dev lo` does. With one of version 4 comes that the
/// whole network is local.
pub(crate) fn add_address(address: IpAddr, prefix: u8) -> io::Result<()> {
    const IFA_ADDRESS: u16 = 1;
    const IFA_LOCAL: u16 = 2;
    let mut body = vec![family(address), prefix, 0, 0];
    body.extend(LO.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &octets(address));
    attribute(&mut body, IFA_ADDRESS, &octets(address));
    ask(RTM_NEWADDR, REQUEST_AND_ACK | CREATE_OR_REPLACE, &body)
}

/// Makes a network local, as `ip route add local NETWORK/PREFIX dev lo` does.
pub(crate) fn make_local(network: IpAddr, prefix: u8) -> io::Result<()> {
    const RT_TABLE_LOCAL: u8 = 255;
    const RTPROT_STATIC: u8 = 4;
    const RT_SCOPE_HOST: u8 = 254;
    const RTN_LOCAL: u8 = 2;
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    let mut body = vec![family(network), prefix, 0, 0];
    body.extend([RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL, 0, 0, 0, 0]);
    attribute(&mut body, RTA_DST, &octets(network));
    attribute(&mut body, RTA_OIF, &LO.to_ne_bytes());
    ask(RTM_NEWROUTE, REQUEST_AND_ACK | CREATE_OR_REPLACE, &body)
}

fn family(address: IpAddr) -> u8 {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    family.as_raw() as u8
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// All values here are a multiple of four bytes long, so nothing needs padding.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

fn ask(kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, ROUTE)?;
    send(&socket, &message(kind, flags, body), SendFlags::empty())?;
    let mut answer = [0; 256];
    recv(&socket, &mut answer, RecvFlags::empty())?;
    Ok(parse(&answer)?)
}

fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// The answer is an error message whose number is 0 if all went well.
fn parse(answer: &[u8; 256]) -> Result<(), Errno> {
    const NLMSG_ERROR: u16 = 2;
    let kind = u16::from_ne_bytes([answer[4], answer[5]]);
    let error = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    match (kind, error) {
        (NLMSG_ERROR, 0) => Ok(()),
        (NLMSG_ERROR, error) => Err(Errno::from_raw_os_error(-error)),
        _ => Err(Errno::PROTO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_is_an_error_number_or_none() {
        let answer = |error: i32| {
            let mut bytes = [0; 256];
            bytes[4] = 2;
            bytes[16..20].copy_from_slice(&error.to_ne_bytes());
            bytes
        };
        assert_eq!(parse(&answer(0)), Ok(()));
        assert_eq!(parse(&answer(-1)), Err(Errno::PERM));
        assert_eq!(parse(&[0; 256]), Err(Errno::PROTO));
    }
}
