//! What a guest sends to be carried to a host, and what that host's server answers.

use osvm_egress::fuzz;
use osvm_wire::chunk;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use crate::{choice, run};

const GRANTED: &str = "api.example.com";

/// First byte: what is read. Second byte: in pieces of how many bytes.
pub fn hosts(bytes: &[u8]) {
    let (what, bytes) = choice(bytes);
    let (piece, bytes) = choice(bytes);
    let piece = usize::from(piece).max(1);
    match what % 4 {
        0 => drop(run(fed(bytes, piece, |stream| fuzz::request(stream)))),
        1 => hello(bytes, piece),
        2 => web(bytes),
        _ => chunks(bytes, piece),
    }
}

/// Whatever `read` makes of bytes that arrive in pieces of that size, with room for one piece.
async fn fed<F: Future>(
    bytes: &[u8],
    piece: usize,
    read: impl FnOnce(DuplexStream) -> F,
) -> F::Output {
    let (ours, mut theirs) = duplex(piece);
    let say = async move {
        // Who has read enough hangs up.
        let _ = theirs.write_all(bytes).await;
    };
    tokio::join!(read(ours), say).0
}

fn hello(bytes: &[u8], piece: usize) {
    let whole = run(fed(bytes, bytes.len().max(1), |stream| fuzz::hello(stream, GRANTED)));
    let pieces = run(fed(bytes, piece, |stream| fuzz::hello(stream, GRANTED)));
    assert_eq!(whole.is_some(), pieces.is_some(), "in pieces it is the same hello");
    for passed in whole.into_iter().chain(pieces) {
        assert!(bytes.starts_with(&passed), "it is passed on as it is");
        let said = message(&passed).to_ascii_lowercase();
        let names = |window: &[u8]| window == GRANTED.as_bytes();
        assert!(said.windows(GRANTED.len()).any(names), "it asks for what was granted");
    }
}

/// What is in TLS's records.
fn message(mut records: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    while let Some((&[_, _, _, high, low], rest)) = records.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        message.extend(&rest[..length]);
        records = &rest[length..];
    }
    message
}

/// Both sides say anything: two bytes tell how much of it is the guest's.
fn web(bytes: &[u8]) {
    let Some((length, bytes)) = bytes.split_first_chunk() else { return };
    let length = usize::from(u16::from_le_bytes(*length)).min(bytes.len());
    let (guest, server) = bytes.split_at(length);
    let passed = run(async {
        let ((ours, inside), (theirs, outside)) = (duplex(64), duplex(64));
        let carried = fuzz::web(ours, theirs, GRANTED);
        let (_, _, passed) = tokio::join!(carried, talk(inside, guest), talk(outside, server));
        passed
    });
    requests(&passed);
}

/// Says everything, hangs up, and returns what it was told.
async fn talk(stream: DuplexStream, said: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut told = Vec::new();
    let say = async {
        let _ = write.write_all(said).await;
        let _ = write.shutdown().await;
    };
    let (_, _) = tokio::join!(read.read_to_end(&mut told), say);
    told
}

/// By another reader, every request that has reached the server is for the host that was granted. A request with a
/// body, or for another protocol, is the last that is looked at.
fn requests(mut passed: &[u8]) {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 256];
        let mut request = httparse::Request::new(&mut headers);
        let Ok(httparse::Status::Complete(length)) = request.parse(passed) else { return };
        let named = |name: &str| -> Vec<_> {
            let fields = request.headers.iter();
            fields.filter(|field| field.name.eq_ignore_ascii_case(name)).map(|f| f.value).collect()
        };
        let [host] = named("host")[..] else {
            panic!("a request reached the server without a host")
        };
        let host = String::from_utf8_lossy(host).to_ascii_lowercase();
        let name = host.split(':').next().unwrap_or_default();
        assert_eq!(name.trim_end_matches('.'), GRANTED);
        assert_ne!(request.method, Some("CONNECT"));
        if ["content-length", "transfer-encoding", "upgrade"].iter().any(|f| !named(f).is_empty()) {
            return;
        }
        passed = &passed[length..];
    }
}

/// A connection's bytes are those that another reading of the chunks finds.
fn chunks(bytes: &[u8], piece: usize) {
    let (mut reader, mut rest, mut expected) = (chunk::Reader::default(), bytes, Vec::new());
    while let Some(run) = reader.next(&mut rest) {
        expected.extend(run);
    }
    let read = run(fed(bytes, piece, |stream| async move {
        let mut found = Vec::new();
        let ended = fuzz::chunked(stream).read_to_end(&mut found).await;
        (found, ended.is_ok())
    }));
    assert_eq!(read, (expected, reader.has_ended()));
}
