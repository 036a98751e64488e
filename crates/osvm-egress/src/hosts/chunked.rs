//! A guest's stream as a connection: bytes both ways, each direction with an end of its own, over a stream that
//! has but one. Chunks come as `osvm_wire::chunk` says.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use osvm_wire::chunk;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most bytes that are read at once, and that one chunk is given.
const PIECE: usize = 16 * 1024;

/// Both directions hold at most one piece.
pub(crate) struct Chunked<S> {
    stream: S,
    reader: chunk::Reader,
    incoming: Box<[u8]>,
    /// What was read and not looked at, and of it what is known to be the connection's and not taken.
    unread: std::ops::Range<usize>,
    run: usize,
    /// A chunk that is on its way, and how much of it has left.
    outgoing: Vec<u8>,
    sent: usize,
    has_ended: bool,
}

impl<S> Chunked<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            reader: chunk::Reader::default(),
            incoming: vec![0; PIECE].into(),
            unread: 0..0,
            run: 0,
            outgoing: Vec::with_capacity(chunk::HEADER_LEN + PIECE),
            sent: 0,
            has_ended: false,
        }
    }

    /// Hands out what has arrived, as much as there is room for. `false` when there is nothing.
    fn take(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.run == 0 {
            let mut bytes = &self.incoming[self.unread.clone()];
            let run = self.reader.next(&mut bytes).map_or(0, <[u8]>::len);
            self.unread.start = self.unread.end - bytes.len() - run;
            self.run = run;
        }
        let length = self.run.min(buf.remaining());
        buf.put_slice(&self.incoming[self.unread.start..][..length]);
        self.unread.start += length;
        self.run -= length;
        length > 0
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Chunked<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.take(buf) && !this.reader.has_ended() && buf.remaining() > 0 {
            let mut fresh = ReadBuf::new(&mut this.incoming);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut fresh))?;
            this.unread = 0..fresh.filled().len();
            if this.unread.is_empty() {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Chunked<S> {
    /// Until the chunk that is on its way has left.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.outgoing.len() {
            let rest = &self.outgoing[self.sent..];
            let length = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if length == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += length;
        }
        self.outgoing.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Chunked<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        let bytes = &bytes[..bytes.len().min(PIECE)];
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.outgoing.extend_from_slice(&chunk::header(bytes.len()));
        this.outgoing.extend_from_slice(bytes);
        // What can't leave now does before the next bytes are taken, or when flushed.
        if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    /// Ends this direction. The stream stays open for the other one.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        if !self.has_ended {
            self.has_ended = true;
            self.outgoing.extend_from_slice(&chunk::END);
        }
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn each_direction_ends_by_itself() {
        let (ours, theirs) = duplex(64);
        let (mut ours, mut theirs) = (Chunked::new(ours), Chunked::new(theirs));
        ours.write_all(b"question").await.unwrap();
        ours.shutdown().await.unwrap();
        let mut question = String::new();
        theirs.read_to_string(&mut question).await.unwrap();
        theirs.write_all(b"answer").await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut answer = String::new();
        ours.read_to_string(&mut answer).await.unwrap();
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
    }

    #[tokio::test]
    async fn a_stream_that_is_cut_off_is_no_end() {
        let (ours, mut theirs) = duplex(64);
        theirs.write_all(&[5, 0, b'h', b'a']).await.unwrap();
        drop(theirs);
        let mut bytes = Vec::new();
        let error = Chunked::new(ours).read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!((error.kind(), &bytes[..]), (io::ErrorKind::UnexpectedEof, &b"ha"[..]));
    }

    proptest! {
        #[test]
        fn bytes_arrive_as_they_were_sent(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..4),
            pipe in 1usize..300,
            buffer in 1usize..40_000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let received = runtime.block_on(async {
                let (ours, theirs) = duplex(pipe);
                let (mut ours, mut theirs) = (Chunked::new(ours), Chunked::new(theirs));
                let send = async {
                    for bytes in &sent {
                        ours.write_all(bytes).await.unwrap();
                    }
                    ours.shutdown().await.unwrap();
                };
                let receive = async {
                    let (mut all, mut piece) = (Vec::new(), vec![0; buffer]);
                    loop {
                        match theirs.read(&mut piece).await.unwrap() {
                            0 => break all,
                            length => all.extend_from_slice(&piece[..length]),
                        }
                    }
                };
                tokio::join!(send, receive).1
            });
            prop_assert_eq!(received, sent.concat());
        }
    }
}
