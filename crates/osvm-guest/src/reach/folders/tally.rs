//! What is under way: requests without a reply, weighed by what they make both sides keep. No I/O.
//!
//! A side keeps what it has sent until it hears of its arrival, and hears so only by messages that go the other way.
//! Every reply tells of its request, and every request of the replies before it; so what either side keeps is no
//! more than what is under way, as long as that is bounded here.

use std::collections::BTreeMap;

use osvm_wire::post::{MAX_KEPT, MAX_MESSAGE};

/// Most that is under way before no more requests are taken; the last one comes on top.
const MAX_UNDER_WAY: usize = MAX_KEPT / 2;

/// What a reply may weigh whose request does not ask for so many bytes: a path, with room.
const REPLY: usize = 8 * 1024;

/// Size of what stands before a request (`struct fuse_in_header`) and a reply (`struct fuse_out_header`).
const REQUEST_HEADER: usize = 40;
const REPLY_HEADER: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Tally {
    weights: BTreeMap<u64, usize>,
    total: usize,
}

/// A reply's header, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reply {
    /// The number of its request, or 0 where there was none.
    pub(super) unique: u64,
    /// 0, or a negative error number.
    pub(super) error: i32,
}

impl Reply {
    /// `None` for what is none.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        (message.len() >= REPLY_HEADER).then(|| {
            Some(Self { unique: u64_at(message, 8)?, error: u32_at(message, 4)? as i32 })
        })?
    }
}

impl Tally {
    pub(super) fn request(&mut self, request: &[u8]) {
        if let (Some(unique), Some(reply)) = (u64_at(request, 8), reply_weight(request)) {
            let weight = request.len() + reply;
            self.total += weight;
            self.total -= self.weights.insert(unique, weight).unwrap_or(0);
        }
    }

    pub(super) fn reply(&mut self, reply: Reply) {
        self.total -= self.weights.remove(&reply.unique).unwrap_or(0);
    }

    pub(super) fn has_room(&self) -> bool {
        self.total < MAX_UNDER_WAY
    }

    pub(super) fn is_empty(&self) -> bool {
        self.weights.is_empty()
    }
}

/// The most that a request's reply may weigh; `None` if it gets none. Numbers and offsets are those of
/// `linux/fuse.h`.
fn reply_weight(request: &[u8]) -> Option<usize> {
    const FORGET: u32 = 2;
    const READ: u32 = 15;
    const GETXATTR: u32 = 22;
    const LISTXATTR: u32 = 23;
    const READDIR: u32 = 28;
    const INTERRUPT: u32 = 36;
    const IOCTL: u32 = 39;
    const NOTIFY_REPLY: u32 = 41;
    const BATCH_FORGET: u32 = 42;
    const READDIRPLUS: u32 = 44;
    let asked = match u32_at(request, 4)? {
        FORGET | BATCH_FORGET | INTERRUPT | NOTIFY_REPLY => return None,
        READ | READDIR | READDIRPLUS => u32_at(request, REQUEST_HEADER + 16),
        GETXATTR | LISTXATTR => u32_at(request, REQUEST_HEADER),
        IOCTL => u32_at(request, REQUEST_HEADER + 28),
        _ => None,
    };
    Some((asked.unwrap_or(0) as usize + REPLY).min(MAX_MESSAGE))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(unique: u64, code: u32, asked: u32) -> Vec<u8> {
        let mut request = vec![0; 80];
        request[4..8].copy_from_slice(&code.to_ne_bytes());
        request[8..16].copy_from_slice(&unique.to_ne_bytes());
        request[56..60].copy_from_slice(&asked.to_ne_bytes());
        request
    }

    #[test]
    fn large_reads_fill_it_and_replies_empty_it() {
        let mut tally = Tally::default();
        let mut count = 0;
        while tally.has_room() {
            count += 1;
            tally.request(&request(count, 15, 1 << 20));
        }
        assert_eq!(count, 8);
        tally.reply(Reply { unique: 1, error: 0 });
        assert!(tally.has_room());
        tally.reply(Reply { unique: 1, error: 0 });
        (2..=count).for_each(|unique| tally.reply(Reply { unique, error: -5 }));
        assert!(tally.is_empty() && tally.total == 0);
    }

    #[test]
    fn what_gets_no_reply_is_not_under_way() {
        let mut tally = Tally::default();
        for code in [2, 36, 41, 42] {
            tally.request(&request(7, code, 0));
        }
        tally.request(b"short");
        assert!(tally.is_empty());
    }

    #[test]
    fn a_number_that_is_used_twice_counts_once() {
        let mut tally = Tally::default();
        tally.request(&request(7, 15, 4096));
        tally.request(&request(7, 1, 0));
        tally.reply(Reply { unique: 7, error: 0 });
        assert_eq!(tally.total, 0);
    }

    #[test]
    fn a_reply_tells_its_request_and_its_error() {
        let message = [&16u32.to_ne_bytes()[..], &(-2i32).to_ne_bytes(), &9u64.to_ne_bytes()];
        let message = message.concat();
        assert_eq!(Reply::parse(&message), Some(Reply { unique: 9, error: -2 }));
        assert_eq!(Reply::parse(&message[..15]), None);
    }
}
