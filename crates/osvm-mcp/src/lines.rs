//! Bytes to lines: bounded, linear in what arrives, and tolerant of what programs print around
//! their messages.

use std::borrow::Cow;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Space made for one read, and kept between lines: connections are many, long lines are rare.
const CHUNK: usize = 8 << 10;

/// Reads lines of at most `limit` bytes. Waiting for one is cancel safe.
#[derive(Debug)]
pub struct LineReader<R> {
    source: R,
    limit: usize,
    buffer: Vec<u8>,
    /// Where the line that is read next begins.
    start: usize,
    /// Bytes from `start` on that are known to hold no line end.
    scanned: usize,
}

/// One line, without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    pub bytes: &'a [u8],
    /// Whether a line end followed. Without one, the stream ended here.
    pub complete: bool,
}

/// Why there is no next line.
#[derive(Debug, Error)]
pub enum LineError {
    #[error("a line exceeds {limit} bytes")]
    TooLong { limit: usize },
    #[error("reading failed: {0}")]
    Read(std::io::Error),
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub fn new(source: R, limit: usize) -> Self {
        Self { source, limit, buffer: Vec::new(), start: 0, scanned: 0 }
    }

    /// The next line, or `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Line<'_>>, LineError> {
        self.next_watched(|_| ()).await
    }

    /// The same; shows what there is of the line whenever more of it must be waited for.
    pub async fn next_watched(
        &mut self,
        mut watch: impl FnMut(&[u8]),
    ) -> Result<Option<Line<'_>>, LineError> {
        loop {
            if let Some(length) = self.find_end() {
                return Ok(Some(self.take(length, true)));
            }
            if self.scanned > self.limit {
                return Err(LineError::TooLong { limit: self.limit });
            }
            watch(&self.buffer[self.start..]);
            if self.read().await? == 0 {
                let rest = self.scanned;
                return Ok((rest > 0).then(|| self.take(rest, false)));
            }
        }
    }

    /// Length of the line that begins at `start`, if its end has arrived within the limit.
    fn find_end(&mut self) -> Option<usize> {
        let fresh = &self.buffer[self.start + self.scanned..];
        let found = fresh.iter().position(|byte| *byte == b'\n');
        let length = self.scanned + found.unwrap_or(fresh.len());
        self.scanned = length;
        found.map(|_| length).filter(|length| *length <= self.limit)
    }

    fn take(&mut self, length: usize, complete: bool) -> Line<'_> {
        let line = self.start..self.start + length;
        self.start = line.end + usize::from(complete);
        self.scanned = 0;
        Line { bytes: &self.buffer[line], complete }
    }

    async fn read(&mut self) -> Result<usize, LineError> {
        self.discard_taken();
        self.buffer.reserve(CHUNK);
        self.source.read_buf(&mut self.buffer).await.map_err(LineError::Read)
    }

    /// Moves what is left to the front. Only after half of the buffer is taken, so that each byte
    /// is moved about once.
    fn discard_taken(&mut self) {
        if self.start * 2 < self.buffer.len() {
            return;
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.len() < CHUNK {
            self.buffer.shrink_to(2 * CHUNK);
        }
    }
}

/// A line as text: without surrounding blanks, NUL bytes and byte-order mark, and with U+FFFD where
/// it is no UTF-8.
pub fn text(line: &[u8]) -> Cow<'_, str> {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    let start = line.iter().position(|byte| !blank(byte)).unwrap_or(line.len());
    let end = line.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    let line = &line[start..end];
    String::from_utf8_lossy(line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn read_all(chunks: Vec<Vec<u8>>, limit: usize) -> Result<Vec<Vec<u8>>, LineError> {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        let feed = async move {
            for chunk in chunks {
                // A reader that refuses a line reads no further.
                let _ = near.write_all(&chunk).await;
                tokio::task::yield_now().await;
            }
        };
        let collect = async move {
            let (mut reader, mut lines) = (LineReader::new(far, limit), Vec::new());
            while let Some(line) = reader.next().await? {
                lines.push(line.bytes.to_vec());
            }
            Ok(lines)
        };
        tokio::join!(feed, collect).1
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_how_bytes_arrive(
            bytes in prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..600),
            chunk in 1usize..40,
        ) {
            let chunks = bytes.chunks(chunk).map(<[u8]>::to_vec).collect();
            let lines = run(read_all(chunks, 1 << 20)).unwrap();
            let mut expected: Vec<_> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            expected.pop_if(|last| last.is_empty());
            prop_assert_eq!(lines, expected);
        }
    }

    #[tokio::test]
    async fn a_line_of_the_limit_is_read_and_one_byte_more_is_refused() {
        let line = |length: usize| vec![[vec![b'x'; length], vec![b'\n']].concat()];
        assert_eq!(read_all(line(10), 10).await.unwrap(), [vec![b'x'; 10]]);
        let error = read_all(line(11), 10).await.unwrap_err();
        assert_eq!(error.to_string(), "a line exceeds 10 bytes");
    }

    #[tokio::test]
    async fn an_endless_line_is_refused_after_the_limit() {
        let error = read_all(vec![vec![b'x'; 1000]; 30], 4096).await.unwrap_err();
        assert!(matches!(error, LineError::TooLong { limit: 4096 }));
    }

    #[tokio::test]
    async fn a_last_line_without_an_end_says_so() {
        let (mut near, far) = tokio::io::duplex(64);
        near.write_all(b"a\nb").await.unwrap();
        drop(near);
        let mut reader = LineReader::new(far, 64);
        assert_eq!(reader.next().await.unwrap(), Some(Line { bytes: b"a", complete: true }));
        assert_eq!(reader.next().await.unwrap(), Some(Line { bytes: b"b", complete: false }));
        assert_eq!(reader.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_long_line_leaves_no_large_buffer_behind() {
        let (mut near, far) = tokio::io::duplex(1 << 16);
        let writing = tokio::spawn(async move {
            near.write_all(&vec![b'x'; 4 << 20]).await.unwrap();
            near.write_all(b"\nshort\n").await.unwrap();
        });
        let mut reader = LineReader::new(far, 64 << 20);
        assert_eq!(reader.next().await.unwrap().unwrap().bytes.len(), 4 << 20);
        assert_eq!(reader.next().await.unwrap().unwrap().bytes, b"short");
        writing.await.unwrap();
        assert_eq!(reader.next().await.unwrap(), None);
        assert!(reader.buffer.capacity() <= 2 * CHUNK, "{}", reader.buffer.capacity());
    }

    #[test]
    fn text_sheds_what_is_not_json() {
        assert_eq!(text(b" {}\r"), "{}");
        assert_eq!(text(b"\0\0{}\0"), "{}");
        assert_eq!(text(b"\xef\xbb\xbf{}"), "{}");
        assert_eq!(text(b"{\"a\":\"\xff\"}"), "{\"a\":\"\u{fffd}\"}");
        assert_eq!(text(b" \t\r\0"), "");
    }
}
