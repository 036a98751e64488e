//! Messages over streams that hang up: each arrives once.

use crate::post::{HEADER_LEN, Header, MAX_KEPT, MAX_MESSAGE, Post, PostError};

/// Sends what there is to send, and loses what comes after the first `arrive`.
fn exchange(from: &mut Post, to: &mut Post, arrive: usize) -> Vec<Vec<u8>> {
    let mut arrived = Vec::new();
    while let Some((header, message)) = from.next() {
        if arrived.len() < arrive {
            to.arrived(Header::parse(header).unwrap()).unwrap();
            arrived.push(message.to_vec());
        }
    }
    arrived
}

/// A new stream between them.
fn resume(one: &mut Post, other: &mut Post) {
    let (seen, others) = (one.seen(), other.seen());
    one.resume(others).unwrap();
    other.resume(seen).unwrap();
}

#[test]
fn what_a_hang_up_swallowed_is_sent_again_and_nothing_twice() {
    let (mut guest, mut host) = (Post::default(), Post::default());
    for number in 0..5 {
        guest.put(vec![number]).unwrap();
    }
    assert_eq!(exchange(&mut guest, &mut host, 3), [[0], [1], [2]]);
    host.put(vec![100]).unwrap();
    assert_eq!(exchange(&mut host, &mut guest, 0), Vec::<Vec<u8>>::new());
    resume(&mut guest, &mut host);
    assert_eq!(exchange(&mut guest, &mut host, 9), [[3], [4]]);
    assert_eq!(exchange(&mut host, &mut guest, 9), [[100]]);
    resume(&mut guest, &mut host);
    assert_eq!(exchange(&mut guest, &mut host, 9), Vec::<Vec<u8>>::new());
}

#[test]
fn a_message_tells_what_has_been_seen_and_that_is_forgotten() {
    let (mut guest, mut host) = (Post::default(), Post::default());
    guest.put(vec![0; MAX_MESSAGE]).unwrap();
    exchange(&mut guest, &mut host, 1);
    host.put(vec![1]).unwrap();
    exchange(&mut host, &mut guest, 1);
    assert_eq!((guest.kept_bytes(), host.kept_bytes()), (0, 1));
    // Were the first still kept, it would be sent on a new stream.
    let seen = host.seen();
    guest.resume(seen).unwrap();
    assert_eq!(guest.next(), None);
}

#[test]
fn lies_about_what_was_seen_are_refused() {
    let mut post = Post::default();
    post.put(vec![1]).unwrap();
    let unsent = PostError::SeenUnsent { seen: 1, sent: 0 };
    assert_eq!(post.arrived(Header { seen: 1, length: 0 }), Err(unsent));
    post.next().unwrap();
    post.arrived(Header { seen: 1, length: 0 }).unwrap();
    assert_eq!(post.resume(0), Err(PostError::Forgotten { seen: 0, kept: 1 }));
    assert_eq!(post.resume(2), Err(PostError::SeenUnsent { seen: 2, sent: 1 }));
}

#[test]
fn a_peer_that_sees_nothing_makes_nobody_keep_everything() {
    let mut post = Post::default();
    let count = MAX_KEPT / MAX_MESSAGE;
    for _ in 0..count {
        post.put(vec![0; MAX_MESSAGE]).unwrap();
    }
    assert_eq!(post.put(vec![0; MAX_MESSAGE]), Err(PostError::Unseen));
}

#[test]
fn a_message_that_is_too_long_is_refused_before_anything_is_allocated() {
    let mut header = [0xFF; HEADER_LEN];
    header[8..].copy_from_slice(&(MAX_MESSAGE as u32 + 1).to_le_bytes());
    assert_eq!(Header::parse(header), Err(PostError::TooLong(MAX_MESSAGE + 1)));
}
