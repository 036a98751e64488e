//! Bytes that no kernel sends.

use std::fs;
use std::io::{Read, Write};

use osvm_spec::Access;
use osvm_wire::frame;
use osvm_wire::grant::{HostRequest, OpenFolder};
use osvm_wire::post::{MAX_MESSAGE, Post};
use proptest::prelude::*;
use rustix::io::Errno;

use crate::peer::{Peer, ROOT, call, fields, greet, message, number, text};
use crate::share::Share;

fn answers(share: &Share) {
    assert_eq!(Peer::of(share).look_up(ROOT, "x"), Err(Errno::NOENT.raw_os_error()));
}

#[test]
fn a_first_frame_of_another_kind_ends_the_connection_only() {
    let share = Share::lend(Access::Rw);
    let other = HostRequest::Connect { host: "x".into(), port: 1 };
    let long = HostRequest::Connect { host: "x".repeat(5000), port: 1 };
    for bytes in [frame::encode(&other).unwrap(), frame::encode(&long).unwrap(), vec![0xff; 4096]] {
        let mut stream = share.connect();
        stream.write_all(&bytes).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }
    answers(&share);
}

#[test]
fn a_message_too_long_ends_the_connection_only() {
    let share = Share::lend(Access::Rw);
    let mut peer = Peer::of(&share);
    let header = [&0_u64.to_le_bytes()[..], &(MAX_MESSAGE as u32 + 1).to_le_bytes()].concat();
    peer.stream.write_all(&header).unwrap();
    assert_eq!(peer.stream.read(&mut [0]).unwrap_or(0), 0);
    answers(&share);
}

#[test]
fn what_was_seen_and_never_sent_ends_the_connection_only() {
    let share = Share::lend(Access::Rw);
    let mut peer = Peer::of(&share);
    peer.stream.write_all(&9_u64.to_le_bytes()).unwrap();
    peer.stream.write_all(&[0; 4]).unwrap();
    assert_eq!(peer.stream.read(&mut [0]).unwrap_or(0), 0);
    let mut stream = share.connect();
    let opening = OpenFolder { folder: 0, uid: 0, gid: 0, seen: 0 };
    stream.write_all(&frame::encode(&opening).unwrap()).unwrap();
    assert_ne!(stream.read(&mut [0]).unwrap(), 0, "it goes on");
}

#[test]
fn an_empty_message_says_only_what_was_seen() {
    let share = Share::lend(Access::Rw);
    let mut peer = Peer::of(&share);
    peer.send(Vec::new());
    assert_eq!(peer.look_up(ROOT, "x"), Err(Errno::NOENT.raw_os_error()));
}

#[test]
fn sizes_that_the_guest_claims_are_not_made_room_for() {
    let share = Share::lend_prepared(Access::RwAll, |folder| {
        fs::write(folder.join("file"), "text").unwrap();
    });
    let mut peer = Peer::of(&share);
    let invalid = Err(Errno::INVAL.raw_os_error());
    let file = peer.look_up(ROOT, "file").unwrap();
    let handle = peer.open(file, 2).unwrap();
    assert_eq!(peer.read(file, handle, u32::MAX), invalid);
    assert_eq!(peer.read(file, handle, 1 << 20).unwrap(), b"text");
    let write = [&handle.to_ne_bytes()[..], &[0; 8], &fields(&[1 << 20]), &[0; 20], b"x"].concat();
    assert_eq!(peer.ask(call::WRITE, file, &write), invalid);
    let folder = number(&peer.ask(call::OPENDIR, ROOT, &fields(&[0, 0])).unwrap());
    let list = [&folder.to_ne_bytes()[..], &[0; 8], &fields(&[u32::MAX]), &[0; 20]].concat();
    assert_eq!(peer.ask(call::READDIRPLUS, ROOT, &list), invalid);
    let set = [fields(&[u32::MAX, 0]), text("user.x"), b"x".to_vec()].concat();
    assert_eq!(peer.ask(call::SETXATTR, file, &set), invalid);
    let get = [fields(&[u32::MAX, 0]), text("user.x")].concat();
    assert!(peer.ask(call::GETXATTR, file, &get).is_err());
    assert_eq!(peer.ask(call::LISTXATTR, file, &fields(&[u32::MAX, 0])), Ok(Vec::new()));
    peer.send(message(call::BATCH_FORGET, 1000, 0, &fields(&[u32::MAX, 0])));
    assert!(peer.look_up(ROOT, "file").is_ok());
}

#[test]
fn what_is_not_known_is_answered_so() {
    let share = Share::lend(Access::RwAll);
    let mut peer = Peer::of(&share);
    for call in [0, 7, 19, 25, 31, 37, 39, 40, 41, 48, 51, 52, 4096, u32::MAX] {
        assert_eq!(peer.ask(call, ROOT, &[0; 200]), Err(Errno::NOSYS.raw_os_error()), "{call}");
    }
    assert_eq!(peer.ask(call::GETATTR, 77, &[0; 16]), Err(Errno::STALE.raw_os_error()));
    assert_eq!(peer.read(ROOT, 77, 1), Err(Errno::BADF.raw_os_error()));
    let old = fields(&[7, 8, 0, 0]);
    assert_eq!(peer.ask(call::INIT, 0, &old), Err(Errno::PROTO.raw_os_error()));
}

#[test]
fn a_new_mount_knows_nothing_of_the_one_before() {
    let share =
        Share::lend_prepared(Access::Rw, |folder| fs::write(folder.join("file"), "").unwrap());
    let mut peer = Peer::of(&share);
    let file = peer.look_up(ROOT, "file").unwrap();
    let handle = peer.open(file, 0).unwrap();
    peer.ask(call::INIT, 0, &fields(&[7, 40, 0, u32::MAX])).unwrap();
    assert_eq!(peer.open(file, 0), Err(Errno::STALE.raw_os_error()));
    assert_eq!(peer.read(file, handle, 1), Err(Errno::BADF.raw_os_error()));
}

#[test]
fn what_is_lent_for_reading_is_read_without_being_opened_by_a_kernel_that_can() {
    const NO_OPEN_SUPPORT: u32 = 1 << 17;
    let share =
        Share::lend_prepared(Access::Ro, |folder| fs::write(folder.join("file"), "text").unwrap());
    let mut peer = Peer::of(&share);
    let mut file = peer.look_up(ROOT, "file").unwrap();
    assert_eq!(
        peer.read(file, 0, 9),
        Err(Errno::BADF.raw_os_error()),
        "it did not say that it can"
    );
    peer.ask(call::INIT, 0, &fields(&[7, 40, 0, NO_OPEN_SUPPORT])).unwrap();
    file = peer.look_up(ROOT, "file").unwrap();
    assert_eq!(peer.open(file, 0), Err(Errno::NOSYS.raw_os_error()));
    assert_eq!(peer.read(file, 0, 9).unwrap(), b"text");
    assert_eq!(peer.read(file, 77, 9), Err(Errno::BADF.raw_os_error()));
    assert_eq!(peer.read(ROOT, 0, 9), Err(Errno::ISDIR.raw_os_error()));
}

/// Each round asks for more than fits, and sees nothing of it.
#[test]
fn answers_that_nobody_sees_are_not_kept_without_end() {
    let share = Share::lend_prepared(Access::Ro, |folder| {
        fs::write(folder.join("file"), vec![7; 1 << 20]).unwrap();
    });
    let mut peer = Peer::of(&share);
    let file = peer.look_up(ROOT, "file").unwrap();
    let handle = peer.open(file, 0).unwrap();
    let body = [&handle.to_ne_bytes()[..], &[0; 8], &fields(&[1 << 20]), &[0; 20]].concat();
    let mut refused = None;
    for _ in 0..500 {
        for _ in 0..20 {
            peer.post.put(message(call::READ, 10_000, file, &body)).unwrap();
        }
        while let Some((header, message)) = peer.post.next() {
            if (&peer.stream).write_all(&[&header[..], message].concat()).is_err() {
                break;
            }
        }
        match greet(share.connect(), &mut peer.post) {
            Ok(stream) => peer.stream = stream,
            Err(error) => {
                refused = Some(error.to_string());
                break;
            }
        }
    }
    let refused = refused.unwrap();
    assert!(refused.contains("unseen"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Hundreds of requests in each case, most of them nearly right.
    #[test]
    fn no_request_ends_the_share(
        requests in prop::collection::vec(
            (0_u32..60, 0_u64..4, prop::collection::vec(prop_oneof![Just(0_u8), 0_u8..3, any::<u8>()], 0..120)),
            300,
        ),
    ) {
        let share = Share::lend_prepared(Access::RwAll, |folder| {
            fs::create_dir(folder.join("a")).unwrap();
            fs::write(folder.join("a/b"), "text").unwrap();
        });
        let mut post = Post::default();
        let stream = greet(share.connect(), &mut post).unwrap();
        let reader = stream.try_clone().unwrap();
        let drain = std::thread::spawn(move || std::io::copy(&mut &reader, &mut std::io::sink()));
        for (unique, (call, node, body)) in requests.iter().enumerate() {
            post.put(message(*call, unique as u64, *node, body)).unwrap();
        }
        while let Some((header, message)) = post.next() {
            (&stream).write_all(&[&header[..], message].concat()).unwrap();
        }
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        drain.join().unwrap().unwrap();
        // Every request is carried out before another connection begins.
        let mut peer = Peer::with_post(&share, post);
        prop_assert!(peer.ask(call::GETATTR, ROOT, &[0; 16]).is_ok());
        prop_assert!(fs::metadata(share.secret()).unwrap().len() == 6);
    }
}
