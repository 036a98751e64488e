//! Waiting for devices: the kernel announces each (netlink, `NETLINK_KOBJECT_UEVENT`), after which whoever waits
//! looks again.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvFlags, SocketFlags, SocketType, bind, netlink, recv, socket_with,
};

use super::InitError;

/// The kernel's own announcements, as opposed to those of a device manager.
const KERNEL_GROUP: u32 = 1;

pub(super) struct Devices {
    announcements: OwnedFd,
}

impl Devices {
    /// Announcements from now on are not missed.
    pub(super) fn listen() -> Result<Self, InitError> {
        let listen = || {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let protocol = Some(netlink::KOBJECT_UEVENT);
            let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)?;
            bind(&socket, &netlink::SocketAddrNetlink::new(0, KERNEL_GROUP))?;
            Ok(socket)
        };
        let socket: rustix::io::Result<OwnedFd> = listen();
        let announcements = socket.map_err(InitError::act("listen for devices"))?;
        Ok(Self { announcements })
    }

    /// Looks now and after each announcement until `look` finds something.
    pub(super) fn wait_for<T>(
        &mut self,
        what: &'static str,
        within: Duration,
        look: impl Fn() -> Option<T>,
    ) -> Result<T, InitError> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(InitError::NoDevice { what, after: within });
            }
            self.next(left).map_err(InitError::act("wait for devices"))?;
        }
    }

    fn next(&self, within: Duration) -> rustix::io::Result<()> {
        let timeout =
            Timespec { tv_sec: within.as_secs() as i64, tv_nsec: within.subsec_nanos().into() };
        poll(&mut [PollFd::new(&self.announcements, PollFlags::IN)], Some(&timeout))?;
        // What was announced does not matter, and neither does an overrun: everything is looked at again.
        while recv(&self.announcements, &mut [0; 4096], RecvFlags::empty()).is_ok() {}
        Ok(())
    }
}
