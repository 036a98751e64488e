//! Frames under bad input: cut, flipped, too long, of another version.

use crate::VERSION;
use crate::frame::{self, Decoder, FrameError, HEADER_LEN, MAX_PAYLOAD};
use crate::message::{Channel, Event, Request, SessionFrame, SessionId, Spawn};
use proptest::collection::vec;
use proptest::prelude::*;

fn spawn() -> impl Strategy<Value = Request> {
    let text = || any::<String>();
    let env = vec((text(), text()), 0..4);
    (any::<[u8; 16]>(), vec(text(), 0..4), env, any::<Option<String>>(), any::<Option<String>>())
        .prop_map(|(session, argv, env, cwd, user)| {
            let session = SessionId(session);
            Request::Spawn(Spawn { session, argv, env, cwd, user, ..Spawn::default() })
        })
}

fn session_frame() -> impl Strategy<Value = SessionFrame> {
    let channel = prop_oneof![Just(Channel::Stdin), Just(Channel::Stdout), Just(Channel::Stderr)];
    (channel, any::<u64>(), vec(any::<u8>(), 0..2000), 0..3).prop_map(
        |(channel, offset, bytes, kind)| match kind {
            0 => SessionFrame::Data { channel, offset, bytes },
            1 => SessionFrame::Ack { channel, offset },
            _ => SessionFrame::End { channel, offset },
        },
    )
}

fn hello() -> Vec<u8> {
    frame::encode(&Request::Hello).unwrap()
}

fn decode(bytes: &[u8]) -> Result<Option<Request>, FrameError> {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    decoder.decode()
}

#[test]
fn what_follows_the_last_frame_is_handed_back() {
    let mut decoder = Decoder::default();
    decoder.push(&[&hello()[..], b"\0bytes"].concat());
    assert_eq!(decoder.decode(), Ok(Some(Request::Hello)));
    assert_eq!(decoder.into_rest(), b"\0bytes");
}

proptest! {
    #[test]
    fn a_request_survives_the_way(request in spawn()) {
        prop_assert_eq!(decode(&frame::encode(&request).unwrap()), Ok(Some(request)));
    }

    #[test]
    fn frames_are_found_however_the_stream_is_cut(
        frames in vec(session_frame(), 1..8),
        cuts in vec(1usize..700, 1..50),
    ) {
        let stream: Vec<u8> =
            frames.iter().flat_map(|message| frame::encode(message).unwrap()).collect();
        let (mut decoder, mut found, mut rest) = (Decoder::default(), Vec::new(), &stream[..]);
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            decoder.push(piece);
            while let Some(message) = decoder.decode::<SessionFrame>().unwrap() {
                found.push(message);
            }
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(found, frames);
        prop_assert_eq!(decoder.finish(), Ok(()));
    }

    #[test]
    fn a_flipped_bit_never_passes(message in session_frame(), at in any::<prop::sample::Index>()) {
        let mut bytes = frame::encode(&message).unwrap();
        let bit = at.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        // A flipped length may make the frame wait for more; it never becomes a message.
        prop_assert!(!matches!(decoder.decode::<SessionFrame>(), Ok(Some(_))));
    }

    #[test]
    fn a_cut_off_frame_waits_and_then_is_an_error(
        message in session_frame(),
        at in any::<prop::sample::Index>(),
    ) {
        let bytes = frame::encode(&message).unwrap();
        let mut decoder = Decoder::default();
        let cut = at.index(bytes.len());
        decoder.push(&bytes[..cut]);
        prop_assert_eq!(decoder.decode::<SessionFrame>(), Ok(None));
        let expected = if cut == 0 { Ok(()) } else { Err(FrameError::Truncated) };
        prop_assert_eq!(decoder.finish(), expected);
    }

    #[test]
    fn noise_is_no_message_and_no_panic(noise in vec(any::<u8>(), 0..200)) {
        prop_assert!(!matches!(decode(&noise), Ok(Some(_))));
    }
}

#[test]
fn another_version_is_refused_by_both_numbers_from_its_first_byte() {
    let theirs = VERSION + 1;
    let error = decode(&[theirs]).unwrap_err();
    assert_eq!(error, FrameError::Version { ours: VERSION, theirs });
    assert_eq!(error.to_string(), "peer speaks protocol version 2, this side speaks version 1");
}

#[test]
fn a_length_beyond_the_cap_is_refused_before_its_bytes_come() {
    let mut bytes = hello();
    bytes[2..6].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(decode(&bytes[..HEADER_LEN]), Err(FrameError::TooLong(u32::MAX as usize)));
}

#[test]
fn a_message_that_is_too_long_is_not_sent() {
    let bytes = vec![0; MAX_PAYLOAD];
    let message = SessionFrame::Data { channel: Channel::Stdin, offset: 0, bytes };
    assert!(matches!(frame::encode(&message), Err(FrameError::TooLong(_))));
}

#[test]
fn a_frame_of_another_kind_is_refused() {
    let mut decoder = Decoder::default();
    decoder.push(&hello());
    assert_eq!(decoder.decode::<Event>(), Err(FrameError::Kind { wanted: 3, found: 1 }));
}

#[test]
fn a_payload_with_bytes_left_over_is_no_message() {
    // Request 6 (close) carries sixteen bytes, request 0 (hello) none.
    let mut bytes = frame::encode(&Request::Close(SessionId([7; 16]))).unwrap();
    bytes[HEADER_LEN] = 0;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..6]);
    hasher.update(&bytes[HEADER_LEN..]);
    bytes[6..HEADER_LEN].copy_from_slice(&hasher.finalize().to_le_bytes());
    assert_eq!(decode(&bytes), Err(FrameError::Payload));
}

#[test]
fn secrets_stay_out_of_debug_output() {
    let env = vec![("TOKEN".to_owned(), "hunter2".to_owned())];
    let text = format!("{:?}", Request::Spawn(Spawn { env, ..Spawn::default() }));
    assert!(text.contains("TOKEN") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_session_id_is_read_back_as_it_is_written() {
    let id = SessionId(*b"\x00\x01abcdefghijkl\xfe\xff");
    assert_eq!(id.to_string().parse(), Ok(id));
    for wrong in ["", "00", "+0000000000000000000000000000000", &"g".repeat(32)] {
        assert!(wrong.parse::<SessionId>().is_err(), "{wrong}");
    }
}
