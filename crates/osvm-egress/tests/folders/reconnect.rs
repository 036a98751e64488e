//! Connections end and come again, and the guest's programs notice nothing.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use osvm_spec::Access;
use osvm_wire::frame;
use osvm_wire::grant::OpenFolder;
use osvm_wire::post::Post;

use crate::mount::Mounted;
use crate::peer::{Peer, ROOT, call, fields, greet, message, text};
use crate::share::{Share, writable};

/// Whatever is done twice, or not at all, is seen in what comes out.
#[test]
fn every_request_is_carried_out_once_however_often_the_connection_ends() {
    const HANG_UPS: usize = 150;
    const WRITERS: usize = 3;
    let Some(mounted) = Mounted::lend(Access::Rw) else { return };
    let guest = mounted.folder();
    let done = AtomicBool::new(false);
    let counts: [AtomicUsize; WRITERS] = Default::default();
    std::thread::scope(|scope| {
        for (writer, count) in counts.iter().enumerate() {
            let done = &done;
            scope.spawn(move || {
                let path = guest.join(format!("appended{writer}"));
                let mut file = File::options().append(true).create(true).open(&path).unwrap();
                while !done.load(Ordering::Relaxed) {
                    let number = count.fetch_add(1, Ordering::Relaxed);
                    writeln!(file, "{number}").unwrap();
                    let name = guest.join(format!("{writer}.{number}"));
                    // Each fails if it is done twice.
                    File::create_new(&name).unwrap().write_all_at(&vec![7; 300_000], 0).unwrap();
                    fs::rename(&name, name.with_extension("moved")).unwrap();
                    assert_eq!(fs::read(name.with_extension("moved")).unwrap(), vec![7; 300_000]);
                    fs::remove_file(name.with_extension("moved")).unwrap();
                }
            });
        }
        let mut random = 88_172_645_463_325_252_u64;
        for _ in 0..HANG_UPS {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            std::thread::sleep(Duration::from_micros(random % 20_000));
            mounted.reconnect();
        }
        done.store(true, Ordering::Relaxed);
    });
    for (writer, count) in counts.iter().enumerate() {
        let count = count.load(Ordering::Relaxed);
        let wanted: String = (0..count).map(|number| format!("{number}\n")).collect();
        let path = mounted.share.folder().join(format!("appended{writer}"));
        assert_eq!(fs::read_to_string(path).unwrap(), wanted);
        assert!(count > 10, "only {count} rounds");
    }
    assert_eq!(fs::read_dir(mounted.share.folder()).unwrap().count(), WRITERS);
}

#[test]
fn a_file_stays_open_over_a_new_connection() {
    let Some(mounted) = Mounted::lend(Access::Rw) else { return };
    let path = mounted.folder().join("file");
    let file = writable(&path);
    fs::remove_file(&path).unwrap();
    file.write_all_at(b"before", 0).unwrap();
    mounted.reconnect();
    let mut text = [0; 6];
    file.read_exact_at(&mut text, 0).unwrap();
    assert_eq!(&text, b"before");
}

#[test]
fn an_answer_that_was_not_seen_comes_again() {
    let share = Share::lend(Access::Rw);
    let mut peer = Peer::of(&share);
    let body = [fields(&[0o755, 0]), text("made")].concat();
    peer.send(message(call::MKDIR, 2, ROOT, &body));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !share.folder().join("made").exists() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    // Its answer is on the way, and lost.
    peer.stream = greet(share.connect(), &mut peer.post).unwrap();
    let answer = peer.receive();
    assert_eq!(answer[8..16], 2_u64.to_ne_bytes());
    assert_eq!(answer[4..8], 0_i32.to_ne_bytes(), "it was made once");
}

#[test]
fn a_guest_that_has_seen_what_was_not_sent_is_refused() {
    let share = Share::lend(Access::Rw);
    let opening = OpenFolder { folder: 0, uid: 0, gid: 0, seen: 5 };
    let mut stream = share.connect();
    stream.write_all(&frame::encode(&opening).unwrap()).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(String::from_utf8_lossy(&rest).contains("peer has seen 5 messages"));
    Peer::of(&share).look_up(ROOT, "x").unwrap_err();
}

#[test]
fn a_new_connection_takes_the_place_of_a_silent_one() {
    let share = Share::lend(Access::Rw);
    let mut silent = share.connect();
    let mut peer = Peer::of(&share);
    peer.look_up(ROOT, "x").unwrap_err();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "it has ended");
}

#[test]
fn the_share_ends_with_the_vm() {
    let mut share = Share::lend(Access::Rw);
    let mut peer = Peer::of(&share);
    peer.look_up(ROOT, "x").unwrap_err();
    share.end().unwrap().unwrap();
    assert_eq!(peer.stream.read(&mut [0]).unwrap(), 0);
    assert!(greet(connected(&share), &mut Post::default()).is_err());
}

/// To a listener that may be gone by now.
fn connected(share: &Share) -> UnixStream {
    let (pair, _) = UnixStream::pair().unwrap();
    UnixStream::connect(share.socket()).unwrap_or(pair)
}
