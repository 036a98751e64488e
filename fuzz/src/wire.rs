//! Frames and the link's handshake, from a peer that lies.

use osvm_wire::frame::{Decoder, FrameError, HEADER_LEN, Message, encode};
use osvm_wire::grant::{FolderAnswer, HostAnswer, HostRequest, OpenFolder};
use osvm_wire::link::{
    Generation, GuestHandshake, GuestStep, HandshakeError, HostHandshake, MAGIC, MESSAGE_LEN,
};
use osvm_wire::message::{Event, Reply, Request, SessionFrame};

use crate::choice;

const HOST: Generation = Generation([b'h'; 16]);
const GUEST: Generation = Generation([b'g'; 16]);

/// First byte: what is read. Second byte: in pieces of how many bytes.
pub fn wire(bytes: &[u8]) {
    let (what, bytes) = choice(bytes);
    let (piece, bytes) = choice(bytes);
    let piece = usize::from(piece).max(1);
    match what % 18 {
        0 => frames::<Request>(bytes, piece),
        1 => frames::<Reply>(bytes, piece),
        2 => frames::<Event>(bytes, piece),
        3 => frames::<SessionFrame>(bytes, piece),
        4 => frames::<Request>(&sealed::<Request>(bytes), piece),
        5 => frames::<Reply>(&sealed::<Reply>(bytes), piece),
        6 => frames::<Event>(&sealed::<Event>(bytes), piece),
        7 => frames::<SessionFrame>(&sealed::<SessionFrame>(bytes), piece),
        8 => host(&checked(bytes), piece),
        9 => guest(&checked(bytes), piece),
        10 => frames::<HostRequest>(bytes, piece),
        11 => frames::<HostAnswer>(bytes, piece),
        12 => frames::<OpenFolder>(bytes, piece),
        13 => frames::<FolderAnswer>(bytes, piece),
        14 => frames::<HostRequest>(&sealed::<HostRequest>(bytes), piece),
        15 => frames::<HostAnswer>(&sealed::<HostAnswer>(bytes), piece),
        16 => frames::<OpenFolder>(&sealed::<OpenFolder>(bytes), piece),
        _ => frames::<FolderAnswer>(&sealed::<FolderAnswer>(bytes), piece),
    }
}

/// However the bytes arrive, they are the same messages, and each is read again when written.
fn frames<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8], piece: usize) {
    let (whole, end) = decode::<M>(bytes, bytes.len().max(1));
    assert_eq!((&whole, &end), (&decode::<M>(bytes, piece).0, &decode::<M>(bytes, piece).1));
    for message in whole {
        let again = encode(&message).expect("what fitted in a frame fits again");
        assert_eq!(decode::<M>(&again, piece), (vec![message], Ok(())));
    }
}

fn decode<M: Message>(bytes: &[u8], piece: usize) -> (Vec<M>, Result<(), FrameError>) {
    let (mut decoder, mut messages) = (Decoder::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        decoder.push(piece);
        loop {
            match decoder.decode() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
        }
    }
    (messages, decoder.finish())
}

/// A frame whose header is right, whatever its payload.
fn sealed<M: Message>(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("inputs are short");
    let mut frame = vec![osvm_wire::VERSION, M::KIND as u8];
    frame.extend(length.to_le_bytes());
    let mut hash = crc32fast::Hasher::new();
    hash.update(&frame);
    hash.update(payload);
    frame.extend(hash.finalize().to_le_bytes());
    assert_eq!(frame.len(), HEADER_LEN);
    frame.extend(payload);
    frame
}

/// Handshake messages whose checksum is wrong get the right one, and `h` and `g` stand for the
/// generations of both ends.
fn checked(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len().saturating_sub(MESSAGE_LEN - 1) {
        if bytes[at..].starts_with(&MAGIC) {
            let crc = crc32fast::hash(&bytes[at..at + MESSAGE_LEN - 4]);
            bytes[at + MESSAGE_LEN - 4..at + MESSAGE_LEN].copy_from_slice(&crc.to_le_bytes());
        }
    }
    bytes
}

fn host(bytes: &[u8], piece: usize) {
    let open = |piece: usize| -> Result<_, HandshakeError> {
        let mut handshake = HostHandshake::new(HOST);
        let mut pieces = bytes.chunks(piece);
        while let Some(piece) = pieces.next() {
            let Some(mut opened) = handshake.receive(piece)? else { continue };
            opened.rest.extend(pieces.flatten());
            return Ok(Some(opened));
        }
        Ok(None)
    };
    assert_eq!(open(piece), open(bytes.len().max(1)));
}

fn guest(bytes: &[u8], piece: usize) {
    assert_eq!(steps(bytes, piece), steps(bytes, bytes.len().max(1)));
}

fn steps(bytes: &[u8], piece: usize) -> Vec<GuestStep> {
    let (mut handshake, mut steps) = (GuestHandshake::default(), Vec::new());
    let mut pieces = bytes.chunks(piece);
    while let Some(piece) = pieces.next() {
        handshake.push(piece);
        loop {
            match handshake.step(GUEST) {
                GuestStep::More => break,
                GuestStep::Open { mut rest } => {
                    rest.extend(pieces.flatten());
                    steps.push(GuestStep::Open { rest });
                    return steps;
                }
                step => steps.push(step),
            }
        }
    }
    steps
}
