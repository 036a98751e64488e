//! Both ends of a link over a socket pair: ours, and a guest made of the wire's handshake and the
//! multiplexer's other mode.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use osvm_wire::link::{
    Generation, GuestHandshake, GuestStep, MESSAGE_LEN, parse_port, port_header,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, Mode};

use super::*;

const LONG: Duration = Duration::from_secs(30);

type GuestMux = Connection<Compat<UnixStream>>;

/// Answers the handshake, as the agent does. Reads by whole messages, so that nothing of the
/// multiplexer's is taken.
async fn answer(socket: &mut UnixStream) {
    let mut handshake = GuestHandshake::default();
    let mut buffer = [0; MESSAGE_LEN];
    loop {
        match handshake.step(Generation([7; 16])) {
            GuestStep::More => {
                socket.read_exact(&mut buffer).await.unwrap();
                handshake.push(&buffer);
            }
            GuestStep::Answer(bytes) => socket.write_all(&bytes).await.unwrap(),
            GuestStep::Refuse { .. } => panic!("same version on both ends"),
            GuestStep::Open { .. } => return,
        }
    }
}

/// A link, and the guest's multiplexer at its other end.
async fn linked(guest_ports: &[u32]) -> (Link, GuestMux) {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let (greeted, ()) = tokio::join!(greet(&mut ours), answer(&mut theirs));
    greeted.unwrap();
    let guest = Connection::new(theirs.compat(), Config::default(), Mode::Server);
    (mux::start(ours, guest_ports, ()), guest)
}

/// A link whose guest says on every stream how much it got once our direction ends.
async fn linked_to_counter() -> Link {
    let (link, mut guest) = linked(&[]).await;
    tokio::spawn(async move {
        while let Some(Ok(stream)) = poll_fn(|cx| guest.poll_next_inbound(cx)).await {
            tokio::spawn(count(stream));
        }
    });
    link
}

async fn count(mut stream: yamux::Stream) -> Option<()> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await.ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.ok()?;
    let text = format!("port {}: {} bytes", parse_port(header), bytes.len());
    stream.write_all(text.as_bytes()).await.ok()?;
    stream.close().await.ok()
}

/// Opens a stream for each port in turn, then drives the guest's multiplexer. Tells `ended` of each
/// stream that the host ends.
async fn open_from_guest(mut guest: GuestMux, ports: Vec<u32>, ended: mpsc::Sender<u32>) {
    for port in ports {
        let mut stream = poll_fn(|cx| guest.poll_new_outbound(cx)).await.unwrap();
        let ended = ended.clone();
        tokio::spawn(async move {
            let hello = [&port_header(port)[..], b"hi"].concat();
            stream.write_all(&hello).await.unwrap();
            let _ = stream.read(&mut [0; 1]).await;
            let _ = ended.send(port).await;
        });
    }
    while let Some(Ok(_)) = poll_fn(|cx| guest.poll_next_inbound(cx)).await {}
}

#[tokio::test]
async fn a_stream_names_its_port_and_can_be_closed_in_one_direction() {
    let link = linked_to_counter().await;
    for port in [5252, 9] {
        let mut stream = link.open(port).await.unwrap();
        stream.write_all(&[1; 100_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, format!("port {port}: 100000 bytes"));
    }
}

#[tokio::test]
async fn a_hang_up_fails_every_stream_instead_of_ending_it_well() {
    let link = linked_to_counter().await;
    let stream = link.open(1).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let reader = tokio::spawn(async move { read.read(&mut [0; 1]).await });
    write.write_all(b"x").await.unwrap();
    link.hang_up();
    link.closed().await;
    assert_eq!(reader.await.unwrap().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert_eq!(write.write(b"x").await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert!(matches!(link.open(1).await, Err(LinkError::Closed)));
    assert!(matches!(link.accept().await, Err(LinkError::Closed)));
}

#[tokio::test]
async fn the_death_of_the_other_end_closes_the_link_and_fails_its_streams() {
    let (link, mut guest) = linked(&[]).await;
    let mut stream = link.open(1).await.unwrap();
    let seen = poll_fn(|cx| guest.poll_next_inbound(cx)).await;
    drop((seen, guest));
    link.closed().await;
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_err().kind(), ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn dropping_the_last_handle_hangs_up() {
    let (link, mut guest) = linked(&[]).await;
    drop(link.clone());
    assert!(!link.is_closed());
    drop(link);
    assert!(poll_fn(|cx| guest.poll_next_inbound(cx)).await.is_none_or(|seen| seen.is_err()));
}

#[tokio::test]
async fn a_guest_reaches_the_ports_it_was_told_of_and_no_others() {
    let (link, guest) = linked(&[7]).await;
    let (ended, mut refused) = mpsc::channel(1);
    tokio::spawn(open_from_guest(guest, vec![8, 7], ended));
    let (port, mut stream) = link.accept().await.unwrap();
    let mut said = [0; 2];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!((port, &said), (7, b"hi"));
    assert_eq!(refused.recv().await, Some(8));
}

#[tokio::test]
async fn a_guest_that_was_told_of_no_port_and_opens_a_stream_is_hung_up_on() {
    let (link, guest) = linked(&[]).await;
    tokio::spawn(open_from_guest(guest, vec![7], mpsc::channel(1).0));
    link.closed().await;
}

#[tokio::test]
async fn streams_that_nobody_accepts_are_refused_beyond_the_queue() {
    let (link, guest) = linked(&[7]).await;
    let (ended, mut refused) = mpsc::channel(MAX_ACCEPTED);
    tokio::spawn(open_from_guest(guest, vec![7; MAX_ACCEPTED], ended));
    for _ in ACCEPT_QUEUE..MAX_ACCEPTED {
        refused.recv().await.unwrap();
    }
    let mut waiting = Vec::new();
    for _ in 0..ACCEPT_QUEUE {
        waiting.push(link.accept().await.unwrap());
    }
    assert!(refused.try_recv().is_err(), "what waited was refused too");
}

#[tokio::test]
async fn one_stream_too_many_is_an_error_and_the_link_goes_on() {
    let link = linked_to_counter().await;
    let mut streams = Vec::new();
    for _ in 0..MAX_OPENED {
        streams.push(link.open(1).await.unwrap());
    }
    assert!(matches!(link.open(1).await, Err(LinkError::TooMany { .. })));
    streams.pop();
    link.open(1).await.unwrap();
}

#[tokio::test]
async fn bytes_of_an_older_link_are_skipped() {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&[0x5A; 1000]).await.unwrap();
    let (greeted, ()) = tokio::join!(greet(&mut ours), answer(&mut theirs));
    greeted.unwrap();
}

#[tokio::test]
async fn a_guest_whose_multiplexer_ate_the_first_hello_finds_the_next() {
    let (mut ours, mut theirs) = UnixStream::pair().unwrap();
    let guest = async {
        theirs.read_exact(&mut [0; 12]).await.unwrap();
        let mut handshake = GuestHandshake::default();
        let mut byte = [0; 1];
        while !matches!(handshake.step(Generation([7; 16])), GuestStep::Answer(_)) {
            theirs.read_exact(&mut byte).await.unwrap();
            handshake.push(&byte);
        }
    };
    tokio::select! {
        greeted = greet(&mut ours) => panic!("nobody answered: {greeted:?}"),
        () = guest => {}
    }
}

#[tokio::test]
async fn a_guest_that_reads_nothing_is_not_heaped_with_hellos() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let greeted = tokio::time::timeout(Duration::from_millis(350), greet(&mut ours)).await;
    assert!(greeted.is_err(), "nobody answered");
    let mut waiting = vec![0; 4096];
    let length = theirs.try_read(&mut waiting).unwrap();
    assert_eq!(length, 2 * MESSAGE_LEN);
}

#[tokio::test]
async fn a_machine_has_one_link_at_a_time() {
    let place = Place::default();
    let (link, _guest) = linked(&[]).await;
    let first = place.connect(LONG, |held| async {
        Ok(Link::new(link.shared.closed.clone(), Box::new(Nowhere(held)), mpsc::channel(1).1))
    });
    let first = first.await.unwrap();
    let second = |_| async { panic!("two at a time") };
    let busy = place.connect(Duration::from_millis(20), second).await;
    assert!(matches!(busy, Err(LinkError::Busy)));
    drop(first);
    let never = |_| std::future::pending();
    let silent = place.connect(Duration::from_millis(20), never).await.err().unwrap();
    assert_eq!(silent.to_string(), "reach the guest's agent: no answer within 0.02 s");
}

/// A transport that only holds the place.
struct Nowhere(#[expect(dead_code, reason = "held, not read")] OwnedMutexGuard<()>);

#[async_trait]
impl Transport for Nowhere {
    async fn open(&self, port: u32) -> Result<Stream, LinkError> {
        Err(LinkError::Refused { port })
    }
}

#[tokio::test]
async fn what_holds_the_place_is_dropped_when_the_link_has_ended() {
    struct Held(Arc<AtomicBool>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let dropped = Arc::new(AtomicBool::new(false));
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let link = mux::start(ours, &[], Held(Arc::clone(&dropped)));
    assert!(!dropped.load(Ordering::SeqCst));
    link.hang_up();
    let mut rest = Vec::new();
    theirs.read_to_end(&mut rest).await.unwrap();
    tokio::time::timeout(LONG, async {
        while !dropped.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
