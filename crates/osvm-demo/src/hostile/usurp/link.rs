//! The agent's end of the link, taken out of its hands: a serial port with a multiplexer, or a socket that
//! listens.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use osvm_wire::link::{Generation, GuestHandshake, GuestStep};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

pub(super) enum Link {
    /// The port, as the agent has opened it: not blocking.
    Serial(OwnedFd),
    /// The listening socket, and the streams that were open.
    Vsock { listener: OwnedFd, streams: Vec<OwnedFd> },
}

/// A frame of the multiplexer begins with version, type, flags, stream and length.
const MUX_HEADER: usize = 12;
const DATA: u8 = 0;

impl Link {
    /// Copies the descriptors of process 1 until the link is among them.
    pub(super) fn steal() -> io::Result<Self> {
        let agent = pidfd_open(Pid::INIT, PidfdFlags::empty())?;
        let (mut listener, mut streams) = (None, Vec::new());
        for entry in fs::read_dir("/proc/1/fd")? {
            let entry = entry?;
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let steal = || pidfd_getfd(&agent, number, PidfdGetfdFlags::empty());
            if target.starts_with("/dev") && target.to_string_lossy().contains("/vport") {
                return Ok(Self::Serial(steal()?));
            }
            if target.to_string_lossy().starts_with("socket:") {
                let socket = steal()?;
                match sockopt::socket_domain(&socket)? {
                    AddressFamily::VSOCK if sockopt::socket_acceptconn(&socket)? => {
                        listener = Some(socket);
                    }
                    AddressFamily::VSOCK => streams.push(socket),
                    _ => {}
                }
            }
        }
        let none = || io::Error::new(io::ErrorKind::NotFound, "the agent holds no link");
        Ok(Self::Vsock { listener: listener.ok_or_else(none)?, streams })
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Serial(_) => "serial port",
            Self::Vsock { .. } => "vsock",
        }
    }

    /// Random bytes to whoever reads; how many were taken.
    pub(super) fn garbage(&mut self, until: Instant) -> io::Result<usize> {
        let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
        let mut written = 0;
        while Instant::now() < until {
            let chunk = noise.chunk();
            match self {
                Self::Serial(port) => written += write(port, &chunk, until)?,
                Self::Vsock { listener, streams } => {
                    for stream in streams.drain(..) {
                        // One that the host has closed by now is no loss.
                        written += write(&stream, &chunk, until).unwrap_or(0);
                    }
                    streams.extend(accept(listener, until)?);
                }
            }
        }
        Ok(written)
    }

    /// Opens each link as the agent would and breaks it at once, by a stream to a port of the host's that was
    /// not opened; how many links were opened.
    pub(super) fn break_again_and_again(&mut self, until: Instant) -> io::Result<usize> {
        let mut opened = 0;
        self.break_streams(until)?;
        loop {
            if Instant::now() > until {
                return Ok(opened);
            }
            match self {
                Self::Serial(port) => {
                    opened += usize::from(open(port, until)?.is_some());
                    write(port, &stream_to(22), until)?;
                }
                Self::Vsock { listener, streams } => {
                    streams.extend(accept(listener, until)?);
                    opened += streams.len();
                    self.break_streams(until)?;
                }
            }
        }
    }

    /// Breaks what was open, opens what is asked for, and answers every question with the same bytes.
    pub(super) fn answer_with(&mut self, lie: &[u8], until: Instant) -> io::Result<usize> {
        self.break_streams(until)?;
        match self {
            Self::Serial(port) => match open(port, until)? {
                Some(rest) => answer_frames(port, rest, lie, until),
                None => Ok(0),
            },
            Self::Vsock { listener, .. } => {
                let mut told = 0;
                while let Some(stream) = accept(listener, until)? {
                    let _ = read(&stream, until);
                    told += usize::from(write(&stream, lie, until).is_ok());
                }
                Ok(told)
            }
        }
    }

    /// What no multiplexer takes for a frame, or an end.
    fn break_streams(&mut self, until: Instant) -> io::Result<()> {
        match self {
            Self::Serial(port) => write(port, &[0xff; 64], until).map(drop),
            Self::Vsock { streams, .. } => {
                for stream in streams.drain(..) {
                    let _ = rustix::net::shutdown(&stream, rustix::net::Shutdown::Both);
                }
                Ok(())
            }
        }
    }
}

/// The guest's side of the handshake; the first bytes after it, or `None` when the time is over.
fn open(port: &OwnedFd, until: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut handshake = GuestHandshake::default();
    loop {
        match handshake.step(Generation([7; 16])) {
            GuestStep::More => match read(port, until)? {
                Some(bytes) => handshake.push(&bytes),
                None => return Ok(None),
            },
            GuestStep::Answer(answer) | GuestStep::Refuse { answer, .. } => {
                write(port, &answer, until)?;
            }
            GuestStep::Open { rest } => return Ok(Some(rest)),
        }
    }
}

/// Sends the lie on every stream on which data comes; how often.
fn answer_frames(
    port: &OwnedFd,
    mut bytes: Vec<u8>,
    lie: &[u8],
    until: Instant,
) -> io::Result<usize> {
    let mut told = 0;
    loop {
        while let Some((stream, length)) = data_frame(&bytes) {
            bytes.drain(..(MUX_HEADER + length).min(bytes.len()));
            if let Some(stream) = stream {
                write(port, &[&data_header(stream, lie.len())[..], lie].concat(), until)?;
                told += 1;
            }
        }
        match read(port, until)? {
            Some(more) => bytes.extend(more),
            None => return Ok(told),
        }
    }
}

/// The stream of the frame at the front, if it carries data, and how much of it; `None` until it is all there.
fn data_frame(bytes: &[u8]) -> Option<(Option<u32>, usize)> {
    let &[_, kind, _, _, s0, s1, s2, s3, l0, l1, l2, l3] = bytes.first_chunk::<MUX_HEADER>()?;
    let stream = u32::from_be_bytes([s0, s1, s2, s3]);
    let length = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    match kind {
        DATA if bytes.len() < MUX_HEADER + length => None,
        DATA => Some((Some(stream).filter(|_| length > 0), length)),
        _ => Some((None, 0)),
    }
}

/// A stream of the guest's to that port of the host.
fn stream_to(port: u32) -> Vec<u8> {
    const SYN: u8 = 1;
    // The end that answered the handshake has the even numbers.
    let mut header = data_header(2, 4);
    header[3] = SYN;
    [&header[..], &osvm_wire::link::port_header(port)].concat()
}

fn data_header(stream: u32, length: usize) -> [u8; MUX_HEADER] {
    let mut header = [0; MUX_HEADER];
    header[4..8].copy_from_slice(&stream.to_be_bytes());
    header[8..].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    header
}

/// The next connection, or `None` when the time is over.
fn accept(listener: &OwnedFd, until: Instant) -> io::Result<Option<OwnedFd>> {
    if !wait(listener, PollFlags::IN, until)? {
        return Ok(None);
    }
    Ok(Some(rustix::net::accept(listener)?))
}

/// What there is to read, or `None` when the time is over.
fn read(from: &OwnedFd, until: Instant) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; 16 << 10];
    while wait(from, PollFlags::IN, until)? {
        match rustix::io::read(from, &mut bytes[..]) {
            Ok(count) if count > 0 => {
                bytes.truncate(count);
                return Ok(Some(bytes));
            }
            // A serial port reads as ended while the host is away.
            Ok(_) | Err(rustix::io::Errno::AGAIN) => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(None)
}

/// How much was taken before the time was over.
fn write(to: &OwnedFd, mut bytes: &[u8], until: Instant) -> io::Result<usize> {
    let all = bytes.len();
    while !bytes.is_empty() && wait(to, PollFlags::OUT, until)? {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::AGAIN) => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(all - bytes.len())
}

/// Whether it is ready before the time is over.
fn wait(fd: &OwnedFd, wanted: PollFlags, until: Instant) -> io::Result<bool> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(false);
    }
    let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    Ok(poll(&mut [PollFd::new(&fd.as_fd(), wanted)], Some(&left))? > 0)
}

/// Numbers without an end or a pattern (xorshift).
struct Noise(u64);

impl Noise {
    fn chunk(&mut self) -> Vec<u8> {
        let next = |_| {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0.to_le_bytes()
        };
        (0..512).flat_map(next).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart_when_all_of_them_is_there() {
        let frame = [&data_header(3, 2)[..], b"hi"].concat();
        assert_eq!(data_frame(&frame), Some((Some(3), 2)));
        assert_eq!(data_frame(&frame[..13]), None);
        let mut ping = data_header(0, 99);
        ping[1] = 2;
        assert_eq!(data_frame(&ping), Some((None, 0)));
    }
}
