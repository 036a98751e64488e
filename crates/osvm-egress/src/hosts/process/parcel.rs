//! What daemon and relay process say to each other: a guest's stream, its VM's log and its rules, each in one
//! message of a socket that keeps messages apart.
//!
//! ```text
//! payload: osvm_spec::Hosts as JSON        with it: [the stream, the log]
//! ```

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use osvm_spec::Hosts;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use thiserror::Error;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// Longest that a VM's rules may be, in bytes of JSON: thousands of hosts.
pub const MOST_RULES: usize = 64 * 1024;

/// How many descriptors a message carries.
const LENT: usize = 2;

/// The daemon's end.
#[derive(Debug)]
pub struct Relay {
    control: UnixDatagram,
}

/// The process's end.
pub(super) struct Inbox {
    control: UnixDatagram,
    buffer: Box<[u8]>,
}

pub(super) struct Parcel {
    pub(super) rules: Hosts,
    pub(super) stream: UnixStream,
    pub(super) log: OwnedFd,
}

/// Why a stream was not handed over.
#[derive(Debug, Error)]
pub enum CarryError {
    #[error("rules for hosts of {0} bytes; the limit is {MOST_RULES}")]
    TooLong(usize),
    #[error("failed to write rules for hosts: {0}")]
    Rules(#[from] serde_json::Error),
    #[error("failed to reach the process that connects to hosts: {0}")]
    Process(#[from] io::Error),
}

/// The two ends of a control socket, the first for the daemon's [`Relay`].
pub fn control() -> io::Result<(OwnedFd, OwnedFd)> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(socketpair(family, kind, SocketFlags::CLOEXEC, None)?)
}

/// Tokio has no type for sockets that keep messages apart *and* tell their end. What it knows of a datagram
/// socket, when it is ready, is the same.
fn register(control: OwnedFd) -> io::Result<UnixDatagram> {
    let control = std::os::unix::net::UnixDatagram::from(control);
    control.set_nonblocking(true)?;
    UnixDatagram::from_std(control)
}

impl Relay {
    /// In a runtime of tokio's.
    pub fn new(control: OwnedFd) -> io::Result<Self> {
        Ok(Self { control: register(control)? })
    }

    /// A stream for one of a guest's, which is carried by its VM's rules. `log` is open for appending.
    pub async fn open(
        &self,
        rules: &Hosts,
        log: BorrowedFd<'_>,
    ) -> Result<tokio::net::UnixStream, CarryError> {
        let (ours, theirs) = tokio::net::UnixStream::pair()?;
        self.carry(rules, log, theirs.as_fd()).await?;
        Ok(ours)
    }

    /// Has a guest's stream carried, whose other end is the caller's. Waits while the process has much to do.
    pub async fn carry(
        &self,
        rules: &Hosts,
        log: BorrowedFd<'_>,
        stream: BorrowedFd<'_>,
    ) -> Result<(), CarryError> {
        let text = serde_json::to_vec(rules)?;
        if text.len() > MOST_RULES {
            return Err(CarryError::TooLong(text.len()));
        }
        let lent = [stream, log];
        let send = || Ok(send(self.control.as_fd(), &text, &lent)?);
        Ok(self.control.async_io(Interest::WRITABLE, send).await?)
    }
}

fn send(
    control: BorrowedFd<'_>,
    text: &[u8],
    lent: &[BorrowedFd<'_>; LENT],
) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LENT))];
    let mut with = SendAncillaryBuffer::new(&mut space);
    with.push(SendAncillaryMessage::ScmRights(lent));
    sendmsg(control, &[IoSlice::new(text)], &mut with, SendFlags::NOSIGNAL).map(|_| ())
}

impl Inbox {
    pub(super) fn new(control: OwnedFd) -> io::Result<Self> {
        let buffer = vec![0; MOST_RULES].into();
        Ok(Self { control: register(control)?, buffer })
    }

    /// The next parcel; `None` when the other end is closed. What can't be read is left out.
    pub(super) async fn next(&mut self) -> io::Result<Option<Parcel>> {
        loop {
            let Self { control, buffer } = self;
            let receive = || Ok(receive(control.as_fd(), buffer)?);
            let (length, lent) = control.async_io(Interest::READABLE, receive).await?;
            if length == 0 {
                return Ok(None);
            }
            match unpack(&self.buffer[..length], lent) {
                Ok(parcel) => return Ok(Some(parcel)),
                Err(error) => tracing::warn!(%error, "a guest's stream is lost"),
            }
        }
    }
}

/// The message's length, and what came with it; nothing where not all of it could be taken.
fn receive(
    control: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> rustix::io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LENT))];
    let mut with = RecvAncillaryBuffer::new(&mut space);
    let mut room = [IoSliceMut::new(buffer)];
    let message = recvmsg(control, &mut room, &mut with, RecvFlags::CMSG_CLOEXEC)?;
    let mut lent: Vec<OwnedFd> = with.drain().flat_map(descriptors).collect();
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        lent.clear();
    }
    Ok((message.bytes, lent))
}

fn descriptors(message: RecvAncillaryMessage<'_>) -> Vec<OwnedFd> {
    match message {
        RecvAncillaryMessage::ScmRights(lent) => lent.collect(),
        _ => Vec::new(),
    }
}

fn unpack(text: &[u8], lent: Vec<OwnedFd>) -> io::Result<Parcel> {
    let lent: Result<[OwnedFd; LENT], _> = lent.try_into();
    let [stream, log] = lent.map_err(|_| io::Error::other("its descriptors did not come along"))?;
    let rules = serde_json::from_slice(text)?;
    let stream = UnixStream::from(stream);
    stream.set_nonblocking(true)?;
    Ok(Parcel { rules, stream, log })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use osvm_spec::HostRule;
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn rules(count: usize) -> Hosts {
        let rule = |number| format!("host-{number}.example:8443").parse::<HostRule>().unwrap();
        Hosts { allow: (0..count).map(rule).collect(), allow_private: Vec::new() }
    }

    fn ends() -> (Relay, Inbox) {
        let (ours, theirs) = control().unwrap();
        (Relay::new(ours).unwrap(), Inbox::new(theirs).unwrap())
    }

    #[tokio::test]
    async fn a_stream_arrives_with_its_rules_and_its_log() {
        let (outbox, mut inbox) = ends();
        let mut file = tempfile::tempfile().unwrap();
        let mut stream = outbox.open(&rules(1000), file.as_fd()).await.unwrap();
        let mut parcel = inbox.next().await.unwrap().unwrap();
        assert_eq!(parcel.rules, rules(1000));

        std::fs::File::from(parcel.log).write_all(b"line").unwrap();
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "line");

        stream.write_all(b"hello").await.unwrap();
        let mut bytes = [0; 5];
        parcel.stream.set_nonblocking(false).unwrap();
        parcel.stream.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
    }

    #[tokio::test]
    async fn rules_without_end_are_not_sent() {
        let (outbox, _inbox) = ends();
        let file = tempfile::tempfile().unwrap();
        let error = outbox.open(&rules(10_000), file.as_fd()).await.unwrap_err();
        assert!(matches!(error, CarryError::TooLong(_)), "{error}");
    }

    #[tokio::test]
    async fn what_can_not_be_read_is_left_out_and_the_end_is_told() {
        let (ours, theirs) = control().unwrap();
        let mut inbox = Inbox::new(theirs).unwrap();
        let file = tempfile::tempfile().unwrap();
        send(ours.as_fd(), b"no rules", &[file.as_fd(), file.as_fd()]).unwrap();
        rustix::net::send(&ours, b"{}", SendFlags::empty()).unwrap();
        let outbox = Relay::new(ours).unwrap();
        let _stream = outbox.open(&rules(1), file.as_fd()).await.unwrap();
        drop(outbox);
        assert_eq!(inbox.next().await.unwrap().unwrap().rules, rules(1));
        assert!(inbox.next().await.unwrap().is_none());
    }
}
