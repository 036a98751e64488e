//! The handshake, with everything a serial port may hold before it.

use crate::VERSION;
use crate::link::*;
use proptest::collection::vec;
use proptest::prelude::*;

const HOST: Generation = Generation([0x11; 16]);
const GUEST: Generation = Generation([0x22; 16]);

fn answer(guest: &mut GuestHandshake, bytes: &[u8]) -> [u8; MESSAGE_LEN] {
    guest.push(bytes);
    match guest.step(GUEST) {
        GuestStep::Answer(answer) => answer,
        other => panic!("no answer but {other:?}"),
    }
}

fn open(host: &mut HostHandshake, bytes: &[u8]) -> Opened {
    host.receive(bytes).unwrap().expect("an opened link")
}

/// What would be left of an earlier link: noise, pieces of handshakes, whole handshakes of others.
fn leftovers() -> impl Strategy<Value = Vec<u8>> {
    let other = HostHandshake::new(Generation([0x99; 16])).hello();
    let noise = vec(any::<u8>(), 0..100);
    let piece = (0..MESSAGE_LEN).prop_map(move |cut| other[..cut].to_vec());
    let magic = (0..=MAGIC.len()).prop_map(|cut| MAGIC[..cut].to_vec());
    vec(prop_oneof![noise, piece, magic], 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_link_opens_behind_any_leftovers_and_in_any_pieces(
        to_guest in leftovers(),
        to_host in leftovers(),
        piece in 1usize..60,
    ) {
        let (mut host, mut guest) = (HostHandshake::new(HOST), GuestHandshake::default());
        let mut ack = None;
        for bytes in [&to_guest[..], &host.hello()].concat().chunks(piece) {
            guest.push(bytes);
            loop {
                match guest.step(GUEST) {
                    GuestStep::Answer(answer) => ack = Some(answer),
                    step => { prop_assert_eq!(step, GuestStep::More); break }
                }
            }
        }
        let mut opened = None;
        for bytes in [&to_host[..], &ack.expect("an ACK")].concat().chunks(piece) {
            opened = opened.or(host.receive(bytes).unwrap());
        }
        let opened = opened.expect("an opened link");
        prop_assert_eq!(opened.rest, Vec::<u8>::new());
        guest.push(&[&opened.send[..], b"mux"].concat());
        prop_assert_eq!(guest.step(GUEST), GuestStep::Open { rest: b"mux".to_vec() });
    }
}

#[test]
fn a_repeated_hello_is_answered_once() {
    let (mut host, mut guest) = (HostHandshake::new(HOST), GuestHandshake::default());
    let ack = answer(&mut guest, &host.hello());
    guest.push(&host.hello_again());
    assert_eq!(guest.step(GUEST), GuestStep::More);
    guest.push(&open(&mut host, &ack).send);
    assert_eq!(guest.step(GUEST), GuestStep::Open { rest: vec![] });
}

#[test]
fn the_latest_of_two_hosts_gets_the_link() {
    let (mut first, mut second) = (HostHandshake::new(HOST), HostHandshake::new(GUEST));
    let mut guest = GuestHandshake::default();
    let stale = answer(&mut guest, &first.hello());
    let fresh = answer(&mut guest, &second.hello());
    guest.push(&open(&mut first, &stale).send);
    assert_eq!(guest.step(GUEST), GuestStep::More, "the first host's GO is stale");
    assert_eq!(second.receive(&stale), Ok(None), "an ACK to somebody else is skipped");
    guest.push(&open(&mut second, &fresh).send);
    assert_eq!(guest.step(GUEST), GuestStep::Open { rest: vec![] });
}

#[test]
fn a_go_that_nobody_was_answered_for_opens_nothing() {
    let (mut host, mut guest) = (HostHandshake::new(HOST), GuestHandshake::default());
    let ack = answer(&mut guest, &host.hello());
    let mut restarted = GuestHandshake::default();
    restarted.push(&open(&mut host, &ack).send);
    assert_eq!(restarted.step(GUEST), GuestStep::More);
}

/// A message as a peer of another version would send it: the layout is the same for ever.
fn of_version(version: u8, message: [u8; MESSAGE_LEN]) -> [u8; MESSAGE_LEN] {
    let mut bytes = message;
    bytes[8] = version;
    let crc = crc32fast::hash(&bytes[..MESSAGE_LEN - 4]);
    bytes[MESSAGE_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

#[test]
fn a_guest_of_another_version_is_refused_by_both_numbers() {
    let (mut host, mut guest) = (HostHandshake::new(HOST), GuestHandshake::default());
    let ack = of_version(7, answer(&mut guest, &host.hello()));
    let error = host.receive(&ack).unwrap_err();
    assert_eq!(error, HandshakeError::Version { host: VERSION, guest: 7 });
    assert_eq!(error.to_string(), "guest speaks protocol version 7, this host speaks version 1");
}

#[test]
fn a_host_of_another_version_is_told_ours_and_gets_no_link() {
    let (host, mut guest) = (HostHandshake::new(HOST), GuestHandshake::default());
    guest.push(&of_version(7, host.hello()));
    let GuestStep::Refuse { answer, host_version } = guest.step(GUEST) else { panic!("accepted") };
    assert_eq!((host_version, answer[8]), (7, VERSION));
}

#[test]
fn a_flush_is_longer_than_any_frame_it_may_have_to_end() {
    let biggest_rest = MUX_SPLIT + 12;
    assert!(FLUSH.len() >= biggest_rest + 12);
    assert!(FLUSH.iter().all(|byte| *byte != 0), "no multiplexer header begins like this");
    assert_eq!(MAGIC[0], 0xFE, "which no UTF-8 text contains");
}

#[test]
fn a_port_is_read_back_as_it_is_written() {
    assert_eq!(parse_port(port_header(0xDEAD_BEEF)), 0xDEAD_BEEF);
    assert_eq!(port_header(5252), [0x84, 0x14, 0, 0]);
}
