//! Many streams over one byte channel: a task owns the multiplexer and drives it.
//!
//! The other end is a guest, so what it can make us hold has a bound: [`MAX_STREAMS`] streams, each
//! with the multiplexer's first window of 256 KiB, which does not grow. A guest that opens a stream
//! though it was told of no port, or breaks the multiplexer's rules, is hung up on.

mod door;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use osvm_wire::link::{MUX_SPLIT, port_header};
use tokio::io::{self, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};
use tokio_util::sync::CancellationToken;
use yamux::{Config, Connection, Mode};

use super::{ACCEPT_QUEUE, Link, LinkError, MAX_OPENED, Stream, Transport};
use door::Door;

/// Streams of one link in both directions, as the multiplexer counts them. It counts a dropped
/// stream until the guest has been told, and gives up the link at one too many, so this leaves room
/// above [`MAX_OPENED`] and [`MAX_ACCEPTED`](super::MAX_ACCEPTED) together.
const MAX_STREAMS: usize = 128;

/// Bytes that are read or written at once: a frame and its header are not worth a call each, and each call that the
/// VMM sees is an interrupt of the guest's.
const AT_ONCE: usize = 4 * MUX_SPLIT;

/// Starts the multiplexer on a greeted socket. `held` is dropped once the socket has been closed.
pub(crate) fn start(socket: UnixStream, guest_ports: &[u32], held: impl Send + 'static) -> Link {
    let closed = CancellationToken::new();
    let (wanted, requests) = mpsc::channel(MAX_OPENED);
    let (accepted, incoming) = mpsc::channel(ACCEPT_QUEUE);
    let task = Task {
        connection: connection(Watched { socket, closed: closed.clone() }),
        requests,
        waiting: None,
        door: Door::new(guest_ports, accepted, closed.clone()),
    };
    tokio::spawn(run(task, closed.clone(), held));
    let places = Arc::new(Semaphore::new(MAX_OPENED));
    Link::new(closed.clone(), Box::new(Mux { wanted, places, closed }), incoming)
}

/// The link's end of the multiplexer: asks the task for streams.
struct Mux {
    wanted: mpsc::Sender<Reply>,
    places: Arc<Semaphore>,
    closed: CancellationToken,
}

type Reply = oneshot::Sender<yamux::Stream>;

#[async_trait]
impl Transport for Mux {
    async fn open(&self, port: u32) -> Result<Stream, LinkError> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_| LinkError::TooMany { port, limit: MAX_OPENED })?;
        let (reply, stream) = oneshot::channel();
        self.wanted.send(reply).await.map_err(|_| LinkError::Closed)?;
        let stream = stream.await.map_err(|_| LinkError::Closed)?;
        let mut stream = Stream::new(stream.compat(), &self.closed).in_place(place);
        stream.write_all(&port_header(port)).await.map_err(|_| LinkError::Closed)?;
        Ok(stream)
    }
}

/// Drives the multiplexer until it ends or is hung up on, then closes the socket.
async fn run(mut task: Task, closed: CancellationToken, held: impl Send) {
    tokio::select! {
        () = closed.cancelled() => {}
        () = poll_fn(|cx| task.poll(cx)) => closed.cancel(),
    }
    drop(task);
    drop(held);
}

struct Task {
    connection: Connection<Compat<BufStream<Watched>>>,
    requests: mpsc::Receiver<Reply>,
    /// Taken from `requests`, and the multiplexer was not ready for it.
    waiting: Option<Reply>,
    door: Door,
}

impl Task {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.poll_requests(cx).is_err() {
                return Poll::Ready(());
            }
            match self.connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(stream))) => {
                    if !self.door.let_in(stream) {
                        tracing::warn!("guest opened a stream though it was told of no port");
                        return Poll::Ready(());
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::warn!(%error, "link broke");
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Opens what was asked for. An error ends the connection.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<(), yamux::ConnectionError> {
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
        match self.waiting.take() {
            Some(reply) => Some(reply),
            None => match self.requests.poll_recv(cx) {
                Poll::Ready(reply) => reply,
                Poll::Pending => None,
            },
        }
    }
}

fn connection(socket: Watched) -> Connection<Compat<BufStream<Watched>>> {
    let mut config = Config::default();
    config.set_max_num_streams(MAX_STREAMS);
    // No room beyond each stream's first window, so windows don't grow.
    config.set_max_connection_receive_window(Some(MAX_STREAMS * yamux::DEFAULT_CREDIT as usize));
    config.set_split_send_size(MUX_SPLIT);
    let socket = BufStream::with_capacity(AT_ONCE, AT_ONCE, socket);
    Connection::new(socket.compat(), config, Mode::Client)
}

/// The socket, closing the link at its end before the multiplexer hears of it: streams that the
/// multiplexer then drops must not look like streams that ended well.
struct Watched {
    socket: UnixStream,
    closed: CancellationToken,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = std::task::ready!(Pin::new(&mut self.socket).poll_read(cx, buffer));
        if read.is_err() || buffer.filled().len() == before {
            self.closed.cancel();
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = std::task::ready!(Pin::new(&mut self.socket).poll_write(cx, bytes));
        if wrote.is_err() {
            self.closed.cancel();
        }
        Poll::Ready(wrote)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
