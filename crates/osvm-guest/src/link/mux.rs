//! The multiplexer: many streams over one serial port, opened by either end. One task drives it for both.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use osvm_wire::link::{MUX_SPLIT, port_header};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use yamux::{Config, Connection, ConnectionError, Mode};

use super::serve_stream;
use crate::agent::Agent;
use crate::reach::{HostStream, Link, Opening};

/// Most streams at a time, each with the multiplexer's first window, which does not grow: together they
/// bound what a link can make the agent hold. The host opens 48 at most and the agent 60 or so; one dropped
/// counts until the other end has been told.
const MAX_STREAMS: usize = 128;

/// Streams that wait to be opened.
const MAX_WANTED: usize = 64;

/// Serves every stream the host opens and opens those that lead there, until the link hangs up.
pub(super) async fn serve<P>(port: P, agent: &Arc<Agent>) -> Result<(), ConnectionError>
where
    P: AsyncRead + AsyncWrite + Unpin,
{
    let (wanted, requests) = mpsc::channel(MAX_WANTED);
    let _linked = agent.host().linked(Mux { wanted });
    let connection = Connection::new(port.compat(), config(), Mode::Server);
    let mut task = Task { connection, requests, waiting: None, agent };
    poll_fn(|cx| task.poll(cx)).await
}

fn config() -> Config {
    let mut config = Config::default();
    config.set_split_send_size(MUX_SPLIT);
    config.set_max_num_streams(MAX_STREAMS);
    config.set_max_connection_receive_window(Some(MAX_STREAMS * yamux::DEFAULT_CREDIT as usize));
    config
}

/// Asks the task for streams.
struct Mux {
    wanted: mpsc::Sender<Reply>,
}

type Reply = oneshot::Sender<yamux::Stream>;

impl Link for Mux {
    fn open(&self, port: u32) -> Opening {
        let wanted = self.wanted.clone();
        Box::pin(async move {
            let hung_up = || io::Error::from(io::ErrorKind::BrokenPipe);
            let (reply, stream) = oneshot::channel();
            wanted.send(reply).await.map_err(|_| hung_up())?;
            let mut stream = stream.await.map_err(|_| hung_up())?.compat();
            stream.write_all(&port_header(port)).await?;
            Ok(Box::new(stream) as HostStream)
        })
    }
}

struct Task<'a, P> {
    connection: Connection<Compat<P>>,
    requests: mpsc::Receiver<Reply>,
    /// Taken from `requests`, and the multiplexer was not ready for it.
    waiting: Option<Reply>,
    agent: &'a Arc<Agent>,
}

impl<P: AsyncRead + AsyncWrite + Unpin> Task<'_, P> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        loop {
            self.poll_requests(cx)?;
            match self.connection.poll_next_inbound(cx)? {
                Poll::Ready(Some(stream)) => {
                    tokio::spawn(serve_stream(stream.compat(), Arc::clone(self.agent)));
                }
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Opens what was asked for, ahead of what comes in: opening takes nothing but a place in a table.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        while let Some(reply) = self.next_request(cx) {
            match self.connection.poll_new_outbound(cx)? {
                // Whoever asked may have given up; the stream is dropped then.
                Poll::Ready(stream) => drop(reply.send(stream)),
                Poll::Pending => {
                    self.waiting = Some(reply);
                    break;
                }
            }
        }
        Ok(())
    }

    fn next_request(&mut self, cx: &mut Context<'_>) -> Option<Reply> {
        if let Some(reply) = self.waiting.take() {
            return Some(reply);
        }
        match self.requests.poll_recv(cx) {
            Poll::Ready(reply) => reply,
            Poll::Pending => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use osvm_wire::AGENT_PORT;
    use osvm_wire::message::{Reply, Request};
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;
    use crate::agent::tests::host::agent;
    use crate::talk::Talk;

    type Opened = oneshot::Sender<yamux::Stream>;

    /// A host's end: says hello on streams that it is asked for, and hands over those of the guest.
    fn host(port: DuplexStream) -> (mpsc::Sender<Opened>, mpsc::Receiver<yamux::Stream>) {
        let (wanted, mut requests) = mpsc::channel::<Opened>(4);
        let (accepted, incoming) = mpsc::channel(4);
        tokio::spawn(async move {
            let mut connection = Connection::new(port.compat(), config(), Mode::Client);
            poll_fn(|cx| {
                while let Poll::Ready(Some(reply)) = requests.poll_recv(cx) {
                    let Poll::Ready(stream) = connection.poll_new_outbound(cx) else { panic!() };
                    let _ = reply.send(stream.unwrap());
                }
                while let Poll::Ready(stream) = connection.poll_next_inbound(cx) {
                    let Some(Ok(stream)) = stream else { return Poll::Ready(()) };
                    accepted.try_send(stream).unwrap();
                }
                Poll::Pending
            })
            .await;
        });
        (wanted, incoming)
    }

    #[tokio::test]
    async fn streams_are_opened_from_both_ends_and_anew_over_the_next_link() {
        let agent = agent();
        for _ in 0..2 {
            let (ours, theirs) = duplex(64 * 1024);
            let served = tokio::spawn({
                let agent = Arc::clone(&agent);
                async move { serve(ours, &agent).await }
            });
            let (wanted, mut incoming) = host(theirs);

            let mut outbound = agent.host().open(5253).await.unwrap();
            outbound.write_all(b"guest").await.unwrap();
            let mut accepted = incoming.recv().await.unwrap().compat();
            let mut bytes = [0; 9];
            accepted.read_exact(&mut bytes).await.unwrap();
            assert_eq!(bytes, *b"\x85\x14\0\0guest");
            accepted.write_all(b"host").await.unwrap();
            outbound.read_exact(&mut bytes[..4]).await.unwrap();
            assert_eq!(&bytes[..4], b"host");

            let (reply, stream) = oneshot::channel();
            wanted.send(reply).await.unwrap();
            let mut stream = stream.await.unwrap().compat();
            stream.write_all(&port_header(AGENT_PORT)).await.unwrap();
            let mut talk = Talk::new(stream);
            talk.outgoing.send(&Request::Hello).await.unwrap();
            assert!(matches!(talk.incoming.receive().await, Ok(Some(Reply::Hello(_)))));

            served.abort();
            let _ = served.await;
            assert_eq!(outbound.read(&mut bytes).await.unwrap_or(0), 0);
        }
    }
}
