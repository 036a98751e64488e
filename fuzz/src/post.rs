//! Letter boxes and chunks: between two that are honest and a link that is not, every message arrives once and in
//! order; a peer that lies is told so, and nothing is counted wrong.

use std::collections::VecDeque;

use osvm_wire::chunk;
use osvm_wire::post::{HEADER_LEN, Header, MAX_KEPT, MAX_MESSAGE, Post};

use crate::choice;

/// First byte: who is at the other end, or that chunks are read.
pub fn post(bytes: &[u8]) {
    let (what, bytes) = choice(bytes);
    match what % 3 {
        0 => Pair::default().run(bytes),
        1 => against_a_liar(bytes),
        _ => chunks(bytes),
    }
}

/// Two boxes, with what is on its way between them.
#[derive(Default)]
struct Pair {
    ends: [End; 2],
}

#[derive(Default)]
struct End {
    post: Post,
    written: u32,
    on_its_way: VecDeque<(Header, Vec<u8>)>,
    read: u32,
}

impl Pair {
    fn run(mut self, steps: &[u8]) {
        for &step in steps {
            let end = usize::from(step & 1);
            match step >> 1 & 3 {
                0 => self.write(end),
                1 => drop(self.send(end)),
                2 => drop(self.deliver(end)),
                _ => self.hang_up(),
            }
        }
        self.hang_up();
        for end in [0, 1] {
            while self.send(end) {}
            while self.deliver(end) {}
        }
        let [first, second] = &self.ends;
        assert_eq!((first.written, second.written), (second.read, first.read));
    }

    fn write(&mut self, end: usize) {
        let end = &mut self.ends[end];
        let message = end.written.to_le_bytes().to_vec();
        end.post.put(message).expect("small messages, and few");
        end.written += 1;
    }

    fn send(&mut self, end: usize) -> bool {
        let end = &mut self.ends[end];
        let Some((header, message)) = end.post.next() else { return false };
        let header = Header::parse(header).expect("its own header");
        assert_eq!(header.length, message.len());
        end.on_its_way.push_back((header, message.to_vec()));
        true
    }

    /// From that end to the other.
    fn deliver(&mut self, end: usize) -> bool {
        let Some((header, message)) = self.ends[end].on_its_way.pop_front() else { return false };
        let other = &mut self.ends[1 - end];
        other.post.arrived(header).expect("the other end keeps to the rules");
        assert_eq!(message, other.read.to_le_bytes(), "in order, once");
        other.read += 1;
        true
    }

    fn hang_up(&mut self) {
        let seen = [self.ends[0].post.seen(), self.ends[1].post.seen()];
        for (end, seen) in self.ends.iter_mut().zip([seen[1], seen[0]]) {
            end.on_its_way.clear();
            end.post.resume(seen).expect("what was not seen is kept");
        }
    }
}

/// A box, told anything.
fn against_a_liar(steps: &[u8]) {
    let mut post = Post::default();
    for step in steps.chunks_exact(1 + HEADER_LEN) {
        let header: [u8; HEADER_LEN] = step[1..].try_into().expect("a header's length");
        let header = Header::parse(header);
        assert!(header.is_err() || header.is_ok_and(|header| header.length <= MAX_MESSAGE));
        match (step[0] % 4, header) {
            // Who was told that too much is kept gives up.
            (0, _) if post.kept_bytes() > MAX_KEPT => return,
            (0, _) => {
                let put = post.put(vec![0; usize::from(step[1]) * 4096]);
                assert_eq!(put.is_err(), post.kept_bytes() > MAX_KEPT);
            }
            (1, _) => drop(post.next()),
            (2, Ok(header)) => drop(post.arrived(header)),
            (_, Ok(header)) => drop(post.resume(header.seen)),
            (_, Err(_)) => {}
        }
    }
}

/// First byte: in pieces of how many bytes. However they arrive, the connection's bytes are the same.
fn chunks(bytes: &[u8]) {
    let (piece, bytes) = choice(bytes);
    let read = |piece: usize| {
        let (mut reader, mut found) = (chunk::Reader::default(), Vec::<u8>::new());
        for mut piece in bytes.chunks(piece) {
            while let Some(run) = reader.next(&mut piece) {
                assert!(!run.is_empty() && run.len() <= chunk::MAX_CHUNK);
                found.extend(run);
            }
        }
        (found, reader.has_ended())
    };
    assert_eq!(read(usize::from(piece).max(1)), read(bytes.len().max(1)));
}
