//! One connection: asked of the host, and then carried there in chunks, so that each direction ends by itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use osvm_wire::HOSTS_PORT;
use osvm_wire::chunk::{self, END, HEADER_LEN};
use osvm_wire::grant::{HostAnswer, HostRequest};
use rustix::net::sockopt;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::reach::call::{CallError, call};
use crate::reach::host::{Host, HostStream};
use crate::talk::Bytes;

/// How much of a connection is carried at a time, in each direction.
const PIECE: usize = 16 * 1024;

/// Opens connections, so many at a time.
pub(super) struct Connector {
    host: Host,
    places: Arc<Semaphore>,
}

/// A connection's other end, beyond the host.
pub(super) struct Outside {
    incoming: Bytes<HostStream>,
    outgoing: WriteHalf<HostStream>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Call(#[from] CallError),
}

impl Connector {
    pub(super) fn new(host: Host, places: usize) -> Self {
        Self { host, places: Arc::new(Semaphore::new(places)) }
    }

    /// Waits until there may be one more connection; there may for as long as what is returned lives.
    pub(super) async fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<Outside, ConnectError> {
        let request = HostRequest::Connect { host: host.to_owned(), port };
        let (answer, talk) = call(&self.host, HOSTS_PORT, &request).await?;
        match answer {
            HostAnswer::Connected => Ok(Outside {
                incoming: talk.incoming.into_bytes(),
                outgoing: talk.outgoing.into_bytes(),
            }),
            HostAnswer::Refused { why } => Err(ConnectError::Refused(why)),
        }
    }
}

/// Carries bytes both ways until both have ended. `early` are those that were read from inside before. A connection
/// that breaks on one side is reset on the other, so that nobody takes it for complete.
pub(super) async fn carry(mut outside: Outside, mut inside: TcpStream, early: &[u8]) {
    let carried = {
        let (read, mut write) = inside.split();
        tokio::try_join!(
            send(early.chain(read), &mut outside.outgoing),
            receive(&mut outside.incoming, &mut write),
        )
    };
    match carried {
        // Both have ended, so the stream's end takes nothing with it.
        Ok(_) => drop(outside.outgoing.shutdown().await),
        Err(_) => reset(inside),
    }
}

/// Ends a connection so that its program sees an error and not an end.
pub(super) fn reset(inside: TcpStream) {
    // One that is gone already needs no reset.
    let _ = sockopt::set_socket_linger(&inside, Some(Duration::ZERO));
    drop(inside);
}

async fn send(
    mut inside: impl AsyncRead + Unpin,
    outside: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; HEADER_LEN + PIECE];
    loop {
        let count = inside.read(&mut buffer[HEADER_LEN..]).await?;
        if count == 0 {
            outside.write_all(&END).await?;
            return outside.flush().await;
        }
        buffer[..HEADER_LEN].copy_from_slice(&chunk::header(count));
        outside.write_all(&buffer[..HEADER_LEN + count]).await?;
        outside.flush().await?;
    }
}

async fn receive(
    outside: &mut (impl AsyncRead + Unpin),
    inside: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut chunks = chunk::Reader::default();
    while !chunks.has_ended() {
        let count = outside.read(&mut buffer).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = &buffer[..count];
        while let Some(run) = chunks.next(&mut bytes) {
            inside.write_all(run).await?;
        }
    }
    inside.shutdown().await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::reach::host::tests::{Accepted, direct};
    use crate::reach::host::{Host, Linked};
    use crate::talk::Talk;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let program = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (program, listener.accept().await.unwrap().0)
    }

    fn connector() -> (Arc<Connector>, Accepted, Linked) {
        let host = Host::default();
        let (link, accepted) = direct();
        let linked = host.linked(link);
        (Arc::new(Connector::new(host, 2)), accepted, linked)
    }

    /// A connection to `a.example:443`: the program's end, and the host's, which has answered and said `early`.
    async fn connected(early: &[u8]) -> (TcpStream, Talk<HostStream>, Linked) {
        let (connector, mut accepted, linked) = connector();
        let (program, inside) = pair().await;
        tokio::spawn(async move {
            let outside = connector.connect("a.example", 443).await.ok().unwrap();
            carry(outside, inside, b"early ").await;
        });
        let (port, stream) = accepted.recv().await.unwrap();
        assert_eq!(port, HOSTS_PORT);
        let mut talk = Talk::new(stream);
        let request = talk.incoming.receive().await.unwrap();
        assert_eq!(request, Some(HostRequest::Connect { host: "a.example".into(), port: 443 }));
        let mut answer = osvm_wire::frame::encode(&HostAnswer::Connected).unwrap();
        answer.extend(early);
        let Talk { incoming, outgoing } = talk;
        let mut outgoing = outgoing.into_bytes();
        outgoing.write_all(&answer).await.unwrap();
        let stream: HostStream = Box::new(tokio::io::join(incoming.into_bytes(), outgoing));
        (program, Talk::new(stream), linked)
    }

    fn bytes(talk: Talk<HostStream>) -> (Bytes<HostStream>, WriteHalf<HostStream>) {
        (talk.incoming.into_bytes(), talk.outgoing.into_bytes())
    }

    #[tokio::test]
    async fn each_direction_ends_by_itself() {
        let (mut program, talk, _linked) = connected(b"\x02\0hi").await;
        let (mut read, mut write) = bytes(talk);
        program.write_all(b"request").await.unwrap();
        program.shutdown().await.unwrap();
        let mut sent = Vec::new();
        while !sent.ends_with(&END) {
            sent.push(read.read_u8().await.unwrap());
        }
        let (mut chunks, mut rest, mut text) = (chunk::Reader::default(), &sent[..], Vec::new());
        while let Some(run) = chunks.next(&mut rest) {
            text.extend(run);
        }
        assert_eq!((text.as_slice(), chunks.has_ended()), (&b"early request"[..], true));

        write.write_all(b"\x03\0 yo\0\0").await.unwrap();
        let mut answer = String::new();
        program.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "hi yo");
        assert_eq!(read.read(&mut [0; 9]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_is_no_end() {
        let (mut program, talk, _linked) = connected(b"\x09\0incompl").await;
        drop(talk);
        let error = program.read_to_end(&mut Vec::new()).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_program_that_breaks_off_sends_no_end() {
        let (program, talk, _linked) = connected(b"").await;
        let (mut read, _write) = bytes(talk);
        reset(program);
        let mut sent = Vec::new();
        read.read_to_end(&mut sent).await.unwrap();
        assert_eq!(sent, b"\x06\0early ");
    }

    #[tokio::test]
    async fn much_is_carried_whole_though_nobody_reads_at_first() {
        let (program, talk, _linked) = connected(b"").await;
        let (mut read, mut write) = bytes(talk);
        let much: Vec<u8> = (0..2_000_000u32).map(|at| (at % 251) as u8).collect();
        let (mut from, mut to) = program.into_split();
        let echo = async {
            let (mut chunks, mut buffer) = (chunk::Reader::default(), vec![0; 9000]);
            while !chunks.has_ended() {
                let count = read.read(&mut buffer).await.unwrap();
                let mut bytes = &buffer[..count];
                while let Some(run) = chunks.next(&mut bytes) {
                    write.write_all(&chunk::header(run.len())).await.unwrap();
                    write.write_all(run).await.unwrap();
                }
            }
            write.write_all(&END).await.unwrap();
        };
        let send = async {
            to.write_all(&much).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let (.., received) = tokio::join!(echo, send, from.read_to_end(&mut back));
        received.unwrap();
        assert!(back == [b"early ".as_slice(), &much].concat());
    }

    #[tokio::test]
    async fn a_refusal_says_why_and_places_are_bounded() {
        let (connector, mut accepted, _linked) = connector();
        let host = async {
            let (_, stream) = accepted.recv().await.unwrap();
            let mut talk = Talk::new(stream);
            let _: Option<HostRequest> = talk.incoming.receive().await.unwrap();
            talk.outgoing.send(&HostAnswer::Refused { why: "no".into() }).await.unwrap();
        };
        let (refused, ()) = tokio::join!(connector.connect("a.example", 443), host);
        assert_eq!(refused.err().unwrap().to_string(), "no");
        let _places = (connector.place().await, connector.place().await);
        let third = tokio::time::timeout(Duration::from_millis(10), connector.place()).await;
        assert!(third.is_err());
    }
}
