//! The bookkeeping of a session's channel: between two ends that are honest and a link that is not,
//! every byte arrives once; against an end that lies, nothing is counted wrong.

use osvm_wire::session::{Incoming, MAX_DATA, Outgoing, Piece, WINDOW};

use crate::choice;

pub fn session(bytes: &[u8]) {
    let (honest, steps) = choice(bytes);
    if honest % 2 == 0 { Pair::default().run(steps) } else { against_a_liar(steps) }
}

/// A channel, with what is on its way in both directions.
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
    fn run(mut self, steps: &[u8]) {
        for step in steps.chunks_exact(2) {
            self.step(step[0], usize::from(step[1]) * 200);
        }
        self.sender.close();
        // Whatever was lost so far, a link that holds brings the rest, a piece at a time.
        for _ in 0..=WINDOW / MAX_DATA + 1 {
            self.step(1, 0);
            self.step(2, 0);
            self.step(3, WINDOW);
        }
        self.step(2, 0);
        assert!(self.receiver.is_done() && self.sender.is_done());
        assert_eq!(self.read, self.written);
    }

    fn step(&mut self, what: u8, count: usize) {
        match what % 6 {
            0 => self.write(count),
            1 => self.on_its_way.extend(self.sender.next_piece()),
            2 => self.deliver(),
            3 => self.read(count),
            4 => self.hang_up(),
            _ => self.sender.close(),
        }
    }

    fn write(&mut self, count: usize) {
        let room = self.sender.room();
        let bytes: Vec<u8> = (self.written..).take(count).map(byte).collect();
        let taken = self.sender.push(&bytes);
        assert_eq!(taken, count.min(room));
        self.written += taken as u64;
    }

    fn deliver(&mut self) {
        for piece in self.on_its_way.drain(..) {
            match piece {
                Piece::Data { offset, bytes } => {
                    assert!(bytes.len() <= MAX_DATA);
                    let new = self.receiver.accept(offset, &bytes);
                    self.held.extend(new.expect("the sender keeps to the rules"));
                }
                Piece::End { offset } => {
                    self.receiver.accept_end(offset).expect("the end is where it is");
                }
            }
        }
        assert!(self.held.len() <= WINDOW);
        for offset in self.acks.drain(..) {
            self.sender.ack(offset).expect("the receiver keeps to the rules");
        }
    }

    fn read(&mut self, count: usize) {
        let count = count.min(self.held.len());
        for found in self.held.drain(..count) {
            assert_eq!(found, byte(self.read), "at offset {}", self.read);
            self.read += 1;
        }
        self.receiver.consume(count);
        self.acks.extend(self.receiver.ack_due());
    }

    fn hang_up(&mut self) {
        self.on_its_way.clear();
        self.acks.clear();
        self.sender.rewind(self.receiver.received()).expect("what is not received is kept");
        self.receiver.repeat_ack();
    }
}

fn byte(offset: u64) -> u8 {
    (offset % 251) as u8
}

/// Both ends of a channel, told anything.
fn against_a_liar(steps: &[u8]) {
    let (mut outgoing, mut incoming) = (Outgoing::default(), Incoming::default());
    for step in steps.chunks_exact(10) {
        let offset = u64::from_le_bytes(step[2..].try_into().expect("eight bytes"));
        let bytes = vec![0; usize::from(step[1]) * 100];
        match step[0] % 10 {
            0 => drop(outgoing.push(&bytes)),
            1 => drop(outgoing.next_piece()),
            2 => drop(outgoing.ack(offset)),
            3 => drop(outgoing.rewind(offset)),
            4 => drop(incoming.accept(offset, &bytes)),
            5 => drop(incoming.accept_end(offset)),
            6 => incoming.consume(bytes.len()),
            7 => drop(incoming.ack_due()),
            8 => incoming = Incoming::resumed(offset),
            // As a host that lost its memory does: the guest tells it both numbers.
            _ => outgoing = Outgoing::resumed(offset, offset.wrapping_sub(u64::from(step[1]))),
        }
        assert!(outgoing.room() <= WINDOW);
        assert!(incoming.consumed() <= incoming.received());
    }
}
