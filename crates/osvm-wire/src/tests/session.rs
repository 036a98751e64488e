//! The bookkeeping of a channel whose link hangs up whenever it likes: the reader gets every byte once.

use crate::message::Attached;
use crate::session::*;
use proptest::collection::vec;
use proptest::prelude::*;

/// What happens next between a sender and a receiver.
#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Send,
    Deliver,
    Read(usize),
    /// What is on its way is lost, and both ends attach again.
    HangUp,
    /// The receiver also forgets everything but what it acknowledged.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..3 * MAX_DATA).prop_map(Step::Write),
        5 => Just(Step::Send),
        5 => Just(Step::Deliver),
        4 => (0..2 * MAX_DATA).prop_map(Step::Read),
        1 => Just(Step::HangUp),
        1 => Just(Step::Restart),
    ];
    vec(step, 0..100)
}

fn byte(offset: u64) -> u8 {
    (offset % 251) as u8
}

/// A channel between a sender and a receiver, with what is on its way in both directions.
#[derive(Default)]
struct Pair {
    sender: Outgoing,
    written: u64,
    on_its_way: Vec<Piece>,
    acks: Vec<u64>,
    receiver: Incoming,
    held: Vec<u8>,
    read: u64,
}

impl Pair {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Write(count) => self.write(*count),
            Step::Send => self.on_its_way.extend(self.sender.next_piece()),
            Step::Deliver => self.deliver(),
            Step::Read(count) => self.read(*count),
            Step::HangUp => self.hang_up(),
            Step::Restart => self.restart(),
        }
    }

    fn write(&mut self, count: usize) {
        let bytes: Vec<u8> = (self.written..).take(count).map(byte).collect();
        self.written += self.sender.push(&bytes) as u64;
        assert!(self.sender.room() <= WINDOW);
    }

    fn deliver(&mut self) {
        for piece in self.on_its_way.drain(..) {
            match piece {
                Piece::Data { offset, bytes } => {
                    self.held.extend(self.receiver.accept(offset, &bytes).unwrap());
                }
                Piece::End { offset } => self.receiver.accept_end(offset).unwrap(),
            }
        }
        for offset in self.acks.drain(..) {
            self.sender.ack(offset).unwrap();
        }
    }

    fn read(&mut self, count: usize) {
        let count = count.min(self.held.len());
        for read in self.held.drain(..count) {
            assert_eq!(read, byte(self.read), "at offset {}", self.read);
            self.read += 1;
        }
        self.receiver.consume(count);
        self.acks.extend(self.receiver.ack_due());
    }

    fn hang_up(&mut self) {
        self.on_its_way.clear();
        self.acks.clear();
        self.sender.rewind(self.receiver.received()).unwrap();
        self.receiver.repeat_ack();
    }

    fn restart(&mut self) {
        let acked = self.sender.acked();
        self.on_its_way.clear();
        self.acks.clear();
        self.held.clear();
        self.sender.rewind(acked).unwrap();
        self.receiver = Incoming::resumed(acked);
        // The new reader repeats what the old one had read without its acknowledgement arriving.
        self.read = acked;
    }

    fn finish(&mut self) {
        self.sender.close();
        while !self.receiver.is_done() {
            [Step::Send, Step::Deliver, Step::Read(usize::MAX)].iter().for_each(|s| self.step(s));
        }
        self.deliver();
    }
}

proptest! {
    #[test]
    fn every_byte_arrives_once_and_in_order(steps in steps()) {
        let mut pair = Pair::default();
        steps.iter().for_each(|step| pair.step(step));
        pair.finish();
        prop_assert_eq!(pair.read, pair.written);
        prop_assert!(pair.sender.is_done());
    }
}

fn drain(sender: &mut Outgoing) -> Vec<Piece> {
    std::iter::from_fn(|| sender.next_piece()).collect()
}

#[test]
fn a_sender_stops_at_its_window_and_goes_on_after_an_acknowledgement() {
    let mut sender = Outgoing::default();
    assert_eq!(sender.push(&vec![0; 2 * WINDOW]), WINDOW);
    assert_eq!(sender.room(), 0);
    drain(&mut sender);
    sender.ack(1000).unwrap();
    assert_eq!(sender.room(), 1000);
}

#[test]
fn an_end_is_sent_after_the_last_byte_and_again_after_a_hang_up() {
    let mut sender = Outgoing::default();
    sender.push(b"abc");
    sender.close();
    let (data, end) = (Piece::Data { offset: 0, bytes: b"abc".to_vec() }, Piece::End { offset: 3 });
    assert_eq!(drain(&mut sender), [data, end]);
    sender.rewind(3).unwrap();
    assert_eq!(drain(&mut sender), [Piece::End { offset: 3 }]);
    assert_eq!(sender.room(), 0, "nothing can be added after the end");
}

#[test]
fn a_resumed_sender_counts_what_the_peer_still_holds() {
    let mut sender = Outgoing::resumed(100, 300);
    assert_eq!(sender.room(), WINDOW - 200);
    sender.push(b"x");
    assert_eq!(drain(&mut sender), [Piece::Data { offset: 300, bytes: b"x".to_vec() }]);
    sender.ack(250).unwrap();
    assert_eq!(sender.room(), WINDOW - 51);
    sender.ack(301).unwrap();
    assert_eq!(sender.room(), WINDOW);
}

#[test]
fn an_acknowledgement_of_unsent_bytes_is_refused() {
    let mut sender = Outgoing::default();
    sender.push(b"abc");
    assert_eq!(sender.ack(1), Err(SessionError::AckedUnsent { offset: 1, sent: 0 }));
}

#[test]
fn going_back_before_what_is_kept_is_refused() {
    let mut sender = Outgoing::default();
    sender.push(b"abc");
    drain(&mut sender);
    sender.ack(2).unwrap();
    assert_eq!(sender.rewind(1), Err(SessionError::Forgotten { offset: 1, kept: 2 }));
    assert_eq!(sender.rewind(4), Err(SessionError::AckedUnsent { offset: 4, sent: 3 }));
}

#[test]
fn a_receiver_takes_the_new_part_of_what_overlaps() {
    let mut receiver = Incoming::default();
    assert_eq!(receiver.accept(0, b"abc"), Ok(&b"abc"[..]));
    assert_eq!(receiver.accept(1, b"bcde"), Ok(&b"de"[..]));
    assert_eq!(receiver.accept(0, b"a"), Ok(&b""[..]));
    assert_eq!(receiver.received(), 5);
}

#[test]
fn a_receiver_refuses_gaps_floods_and_bytes_after_the_end() {
    let mut receiver = Incoming::default();
    assert_eq!(receiver.accept(1, b"x"), Err(SessionError::Gap { expected: 0, found: 1 }));
    assert_eq!(receiver.accept(0, &vec![0; WINDOW + 1]), Err(SessionError::Overrun));
    assert_eq!(receiver.accept_end(5), Err(SessionError::Gap { expected: 0, found: 5 }));
    receiver.accept_end(0).unwrap();
    assert_eq!(receiver.accept(0, b"x"), Err(SessionError::AfterEnd));
}

#[test]
fn small_reads_are_acknowledged_when_nothing_is_left_and_large_ones_in_steps() {
    let mut receiver = Incoming::default();
    receiver.accept(0, &vec![0; WINDOW]).unwrap();
    receiver.consume(10);
    assert_eq!(receiver.ack_due(), None);
    receiver.consume(WINDOW / 8);
    assert_eq!(receiver.ack_due(), Some(WINDOW as u64 / 8 + 10));
    assert_eq!(receiver.ack_due(), None);
    receiver.consume(WINDOW);
    assert_eq!(receiver.ack_due(), Some(WINDOW as u64));
}

#[test]
fn a_peer_that_lies_about_where_a_channel_stands_breaks_nothing() {
    for (acked, received) in [(7, 3), (u64::MAX, 3), (0, u64::MAX), (u64::MAX, u64::MAX)] {
        let mut sender = Outgoing::resumed(acked, received);
        sender.push(b"bytes");
        let sent = sender.next_piece();
        let _ = (sender.ack(acked), sender.ack(received), sender.rewind(received));
        assert!(sender.room() <= WINDOW, "{sent:?}");
        let mut receiver = Incoming::resumed(received);
        let _ = receiver.accept(received, b"bytes");
        receiver.consume(5);
        let _ = (receiver.ack_due(), receiver.accept_end(u64::MAX));
        assert!(receiver.consumed() <= receiver.received());
    }
}

fn at(taken: u64, received: u64, stdout: u64) -> Attached {
    Attached {
        pid: 1,
        stdin_received: received,
        stdin_taken: taken,
        stdin_at_line_start: true,
        stdin_ended: false,
        stdout,
        stderr: 0,
    }
}

#[test]
fn a_place_where_no_session_can_be_is_refused() {
    assert_eq!(check(&at(5, 7, 9)), Ok(()));
    let impossible = |offset| Err(SessionError::Impossible { offset });
    assert_eq!(check(&at(8, 7, 0)), impossible(8));
    assert_eq!(check(&at(0, u64::MAX, 0)), impossible(u64::MAX));
    assert_eq!(check(&at(0, 0, u64::MAX - 1)), impossible(u64::MAX - 1));
}

/// What a peer that lies may say, in any order.
#[derive(Debug, Clone)]
enum Lie {
    Data(u64, usize),
    End(u64),
    Ack(u64),
    Rewind(u64),
}

fn lies() -> impl Strategy<Value = Vec<Lie>> {
    let offset = || prop_oneof![0u64..1000, Just(u64::MAX), Just(u64::MAX - 10), any::<u64>()];
    let lie = prop_oneof![
        (offset(), 0usize..2 * WINDOW).prop_map(|(offset, size)| Lie::Data(offset, size)),
        offset().prop_map(Lie::End),
        offset().prop_map(Lie::Ack),
        offset().prop_map(Lie::Rewind),
    ];
    vec(lie, 0..50)
}

proptest! {
    #[test]
    fn no_lie_makes_an_end_hold_more_than_its_window_or_fail_otherwise_than_by_an_error(
        lies in lies(),
        start in prop_oneof![Just(at(0, 0, 0)), (0..1u64 << 62).prop_map(|n| at(n, n, n))],
    ) {
        prop_assert_eq!(check(&start), Ok(()));
        let mut sender = Outgoing::resumed(start.stdin_taken, start.stdin_received);
        let mut receiver = Incoming::resumed(start.stdout);
        for lie in lies {
            let _ = match lie {
                Lie::Data(offset, size) => receiver.accept(offset, &vec![0; size]).map(drop),
                Lie::End(offset) => receiver.accept_end(offset),
                Lie::Ack(offset) => sender.ack(offset),
                Lie::Rewind(offset) => sender.rewind(offset),
            };
            sender.push(&[1; 1000]);
            sender.next_piece();
            receiver.ack_due();
            prop_assert!(receiver.received() - receiver.consumed() <= WINDOW as u64);
            prop_assert!(sender.room() <= WINDOW);
        }
    }
}
