//! The one interface there is: `lo`.

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use super::InitError;

/// `NETLINK_ROUTE` is protocol 0, the default.
const ROUTE: Option<Protocol> = None;

/// Sets `lo` up, which also gives it 127.0.0.1 and ::1.
pub(super) fn loopback_up() -> Result<(), InitError> {
    ask().map_err(InitError::act("set lo up"))
}

fn ask() -> Result<(), Errno> {
    let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC);
    let socket = socket_with(family, SocketType::RAW, flags, ROUTE)?;
    send(&socket, &request(), SendFlags::empty())?;
    let mut answer = [0; 256];
    recv(&socket, &mut answer, RecvFlags::empty())?;
    parse(&answer)
}

/// `RTM_NEWLINK` for interface 1, which is always `lo`, with `IFF_UP` set (rtnetlink(7)).
fn request() -> [u8; 32] {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 1 | 4;
    const LO: u32 = 1;
    const IFF_UP: u32 = 1;
    let mut message = [0; 32];
    message[0..4].copy_from_slice(&32u32.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_NEWLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST_AND_ACK.to_ne_bytes());
    message[20..24].copy_from_slice(&LO.to_ne_bytes());
    message[24..28].copy_from_slice(&IFF_UP.to_ne_bytes());
    message[28..32].copy_from_slice(&IFF_UP.to_ne_bytes());
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
