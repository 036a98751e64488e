//! How a link over a serial port opens: three messages of fixed size, after which both ends start
//! a multiplexer on the bytes that follow.
//!
//! ```text
//! host                                   guest
//!  HELLO{host, 0}      ───────────────>   (discards until a HELLO)
//!  (discards until     <───────────────   ACK{host, guest}
//!   its own ACK)
//!  GO{host, guest}     ───────────────>   (discards until its own GO)
//!  multiplexer bytes   <──────────────>   multiplexer bytes
//! ```
//!
//! Bytes that somebody wrote before a port was closed reach whoever opens it next, so each end skips
//! everything until it sees a message that echoes the generation it made up for this very link.
//! The layout of a message is the same in every version, so that two versions can at least tell
//! each other their numbers.
//!
//! Every stream of the multiplexer begins with its [`port_header`]. A vsock needs none of this.

use std::fmt;

use thiserror::Error;

use crate::VERSION;

/// First bytes of every handshake message. Never valid UTF-8, and never the start of a multiplexer's
/// header, whose first byte is 0.
pub const MAGIC: [u8; 8] = [0xFE, b'o', b's', b'v', b'm', 0xC3, 0x28, 0xFF];

/// Size of every handshake message: magic, version, kind, two zero bytes, both generations, CRC-32.
pub const MESSAGE_LEN: usize = 48;

/// Largest payload of one multiplexer frame; both ends split what they send at this size.
pub const MUX_SPLIT: usize = 16 * 1024;

/// What a host sends before a repeated HELLO: longer than the rest of any frame that an earlier host
/// may have left cut off in a guest which did not see the hang-up, and no header any multiplexer takes.
/// The guest's multiplexer fails on it, and the guest listens for a HELLO again.
pub static FLUSH: [u8; MUX_SPLIT + 2 * MUX_HEADER] = [0xFF; MUX_SPLIT + 2 * MUX_HEADER];

const MUX_HEADER: usize = 12;

const HELLO: u8 = 1;
const ACK: u8 = 2;
const GO: u8 = 3;

/// Sixteen random bytes that one end makes up for one opening of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generation(pub [u8; 16]);

impl Generation {
    /// What stands in a HELLO, before the guest has made one up.
    const NONE: Self = Self([0; 16]);
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a link can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandshakeError {
    #[error("guest speaks protocol version {guest}, this host speaks version {host}")]
    Version { host: u8, guest: u8 },
}

/// The host's side of the handshake.
///
/// Send [`hello`](Self::hello), feed what comes to [`receive`](Self::receive), and send
/// [`hello_again`](Self::hello_again) every 100 ms until it returns [`Opened`].
#[derive(Debug)]
pub struct HostHandshake {
    generation: Generation,
    scanner: Scanner,
}

/// A link whose guest has answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// The GO: the last bytes to send before the multiplexer's.
    pub send: [u8; MESSAGE_LEN],
    /// What was received after the ACK: the multiplexer's first bytes (in practice none, since the
    /// guest waits for the GO).
    pub rest: Vec<u8>,
}

impl HostHandshake {
    /// `generation` must be fresh and random.
    pub fn new(generation: Generation) -> Self {
        Self { generation, scanner: Scanner::default() }
    }

    /// The first bytes to send.
    pub fn hello(&self) -> [u8; MESSAGE_LEN] {
        Message { version: VERSION, kind: HELLO, host: self.generation, guest: Generation::NONE }
            .encode()
    }

    /// What to send when no ACK has come for a while: [`FLUSH`] and the same HELLO.
    pub fn hello_again(&self) -> Vec<u8> {
        [&FLUSH[..], &self.hello()].concat()
    }

    /// Takes received bytes in pieces of any size. After `Some` the handshake is over.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Option<Opened>, HandshakeError> {
        self.scanner.push(bytes);
        while let Some(message) = self.scanner.next() {
            if message.kind != ACK || message.host != self.generation {
                continue;
            }
            if message.version != VERSION {
                return Err(HandshakeError::Version { host: VERSION, guest: message.version });
            }
            let send = Message { kind: GO, ..message }.encode();
            return Ok(Some(Opened { send, rest: self.scanner.take_rest() }));
        }
        Ok(None)
    }
}

/// The guest's side of the handshake.
///
/// [`push`](Self::push) what comes, then take [`step`](Self::step)s until it says `More`.
#[derive(Debug, Default)]
pub struct GuestHandshake {
    scanner: Scanner,
    /// The HELLO answered last, and the generation it was answered with.
    answered: Option<(Generation, Generation)>,
}

/// What the guest does next.
#[derive(Debug, PartialEq, Eq)]
pub enum GuestStep {
    /// Read more.
    More,
    /// Send these bytes.
    Answer([u8; MESSAGE_LEN]),
    /// Send these bytes, which tell a host of another version so; the link stays closed.
    Refuse { answer: [u8; MESSAGE_LEN], host_version: u8 },
    /// Start the multiplexer; these are the first bytes it gets to read.
    Open { rest: Vec<u8> },
}

impl GuestHandshake {
    pub fn push(&mut self, bytes: &[u8]) {
        self.scanner.push(bytes);
    }

    /// `fresh` is a new generation, used if this step answers a HELLO.
    pub fn step(&mut self, fresh: Generation) -> GuestStep {
        while let Some(message) = self.scanner.next() {
            match message.kind {
                HELLO if !self.has_answered(message.host) => return self.answer(&message, fresh),
                GO if self.answered == Some((message.host, message.guest)) => {
                    return GuestStep::Open { rest: self.scanner.take_rest() };
                }
                _ => {}
            }
        }
        GuestStep::More
    }

    /// A repeated HELLO is answered once only: a second ACK would land in the multiplexer's bytes.
    fn has_answered(&self, host: Generation) -> bool {
        self.answered.is_some_and(|(answered, _)| answered == host)
    }

    fn answer(&mut self, hello: &Message, guest: Generation) -> GuestStep {
        self.answered = Some((hello.host, guest));
        let answer = Message { version: VERSION, kind: ACK, host: hello.host, guest }.encode();
        if hello.version == VERSION {
            GuestStep::Answer(answer)
        } else {
            GuestStep::Refuse { answer, host_version: hello.version }
        }
    }
}

/// The bytes every stream of the multiplexer begins with.
pub fn port_header(port: u32) -> [u8; 4] {
    port.to_le_bytes()
}

/// The port a stream's first bytes name.
pub fn parse_port(header: [u8; 4]) -> u32 {
    u32::from_le_bytes(header)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Message {
    version: u8,
    kind: u8,
    host: Generation,
    guest: Generation,
}

impl Message {
    fn encode(self) -> [u8; MESSAGE_LEN] {
        let mut bytes = [0; MESSAGE_LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8] = self.version;
        bytes[9] = self.kind;
        bytes[12..28].copy_from_slice(&self.host.0);
        bytes[28..44].copy_from_slice(&self.guest.0);
        let crc = crc32fast::hash(&bytes[..44]);
        bytes[44..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` if the checksum is wrong: bytes of an old writer, cut off.
    fn decode(bytes: &[u8; MESSAGE_LEN]) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        Some(Self {
            version: bytes[8],
            kind: bytes[9],
            host: Generation(*body[12..].first_chunk()?),
            guest: Generation(*body[28..].first_chunk()?),
        })
    }
}

/// Finds handshake messages among bytes that mean nothing here.
#[derive(Debug, Default)]
struct Scanner {
    buffer: Vec<u8>,
}

impl Scanner {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message; everything before it is discarded.
    fn next(&mut self) -> Option<Message> {
        loop {
            self.skip_to_magic();
            let bytes = *self.buffer.first_chunk::<MESSAGE_LEN>()?;
            match Message::decode(&bytes) {
                Some(message) => {
                    self.buffer.drain(..MESSAGE_LEN);
                    return Some(message);
                }
                // The true message may begin inside what looked like one.
                None => drop(self.buffer.drain(..1)),
            }
        }
    }

    /// Keeps what may still become the magic, discards what can't.
    fn skip_to_magic(&mut self) {
        let could_start = |rest: &[u8]| rest.iter().zip(MAGIC).all(|(have, want)| *have == want);
        let start = (0..self.buffer.len()).find(|&at| could_start(&self.buffer[at..]));
        self.buffer.drain(..start.unwrap_or(self.buffer.len()));
    }

    fn take_rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }
}
