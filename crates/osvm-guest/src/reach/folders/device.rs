//! `/dev/fuse`: the kernel's requests come out of it, one at a time, and replies go into it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use osvm_wire::post::MAX_MESSAGE;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use thiserror::Error;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::point::{self, Place, Thing};

/// Why a folder was not mounted.
#[derive(Debug, Error)]
pub(super) enum MountError {
    #[error("its place can't be made")]
    Place(#[source] io::Error),
    #[error("/dev/fuse can't be opened")]
    Device(#[source] io::Error),
    #[error("the kernel does not mount it")]
    Mount(#[source] io::Error),
}

/// One mount's requests. Once it is dropped, whoever uses the mount is told that it is not connected.
pub(super) struct Device {
    device: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl Device {
    /// Mounts what the host serves. The files' owners and modes are the host's to judge.
    pub(super) fn mount(place: &Place, writable: bool) -> Result<OwnedFd, MountError> {
        let on = place.make().map_err(MountError::Place)?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let device = open(c"/dev/fuse", flags, Mode::empty());
        let device = device.map_err(|errno| MountError::Device(errno.into()))?;
        let mounted = mount_on(&on, place.thing, &device, writable);
        mounted.map_err(|errno| MountError::Mount(errno.into()))?;
        Ok(device)
    }

    /// To be called inside a Tokio runtime.
    pub(super) fn new(device: OwnedFd) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: the AsyncFd owns the descriptor, so it stays open for as long as it is registered.
        let device = unsafe { AsyncFd::register_with_interest(device, interest) }?;
        // Pages that no request reaches are never touched.
        Ok(Self { device, buffer: vec![0; MAX_MESSAGE] })
    }

    pub(super) fn split(&mut self) -> (Requests<'_>, Replies<'_>) {
        let Self { device, buffer } = self;
        (Requests { device, buffer }, Replies { device })
    }
}

fn mount_on(
    on: &OwnedFd,
    thing: Thing,
    device: &OwnedFd,
    writable: bool,
) -> rustix::io::Result<()> {
    let number = device.as_raw_fd();
    // Of the root's mode the kind counts; the rest is asked for.
    let mode = match thing {
        Thing::Folder => "40000",
        Thing::File => "100000",
    };
    let options =
        format!("fd={number},rootmode={mode},user_id=0,group_id=0,allow_other,subtype=osvm");
    let options = CString::new(options).expect("there is no zero byte in it");
    let mut flags = MountFlags::NOSUID | MountFlags::NODEV;
    flags.set(MountFlags::RDONLY, !writable);
    mount("osvm", point::path(on), "fuse", flags, options.as_c_str())
}

pub(super) struct Requests<'d> {
    device: &'d AsyncFd<OwnedFd>,
    buffer: &'d mut [u8],
}

impl Requests<'_> {
    /// The next request; `None` when the folder is mounted no more. Safe to cancel.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        // A mount that ends is an error of its device, and nothing else.
        let interest = Interest::READABLE | Interest::ERROR;
        loop {
            let read = |device: &OwnedFd| Ok(rustix::io::read(device, &mut *self.buffer)?);
            let error = match self.device.async_io(interest, read).await {
                Ok(0) => return Ok(None),
                Ok(count) => return Ok(Some(self.buffer[..count].to_vec())),
                Err(error) => error,
            };
            match Errno::from_io_error(&error) {
                // The second: its program gave the request up before it was read.
                Some(Errno::INTR | Errno::NOENT) => {}
                Some(Errno::NODEV | Errno::CONNABORTED) => return Ok(None),
                _ => return Err(error),
            }
        }
    }
}

pub(super) struct Replies<'d> {
    device: &'d AsyncFd<OwnedFd>,
}

impl Replies<'_> {
    /// Safe to cancel, and done as soon as it returns.
    pub(super) async fn give(&mut self, reply: &[u8]) -> io::Result<()> {
        let write = |device: &OwnedFd| Ok(rustix::io::write(device, reply)?);
        loop {
            let Err(error) = self.device.async_io(Interest::WRITABLE, write).await else {
                return Ok(());
            };
            match Errno::from_io_error(&error) {
                Some(Errno::INTR) => {}
                // Its program has given the request up, or the mount is gone, which reading tells.
                Some(Errno::NOENT | Errno::NODEV | Errno::CONNABORTED) => return Ok(()),
                _ => return Err(error),
            }
        }
    }
}
