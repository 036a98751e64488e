//! A small HTTP server on the loopback, whose answers a test gives.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

pub(super) struct Server {
    /// Number and port.
    pub(super) address: String,
    asked: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) host: String,
    pub(super) authorization: Option<String>,
    /// Of a range.
    pub(super) from: Option<u64>,
    pub(super) body: Vec<u8>,
}

pub(super) struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// After which the connection breaks.
    sent: usize,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(None, answer)
    }

    /// Speaks TLS, where it is given a certificate.
    pub(super) fn start_with(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, answer) = (asked.clone(), Arc::new(answer));
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, count, answer) = (tls.clone(), count.clone(), answer.clone());
                thread::spawn(move || {
                    let_through(&stream)?;
                    match tls {
                        None => serve(stream, &count, &*answer),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).ok()?;
                            serve(StreamOwned::new(connection, stream), &count, &*answer)
                        }
                    }
                });
            }
        });
        Self { address, asked }
    }

    /// Requests so far.
    pub(super) fn count(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// As a proxy that leads back to this server, where it is asked for one.
fn let_through(mut stream: &TcpStream) -> Option<()> {
    let mut first = [0];
    stream.peek(&mut first).ok()?;
    if first == *b"C" {
        Asked::read(&mut BufReader::new(stream))?;
        stream.write_all(b"HTTP/1.1 200 x\r\n\r\n").ok()?;
    }
    Some(())
}

/// One request a connection.
fn serve(
    mut stream: impl Read + Write,
    count: &AtomicUsize,
    answer: &dyn Fn(&Asked) -> Answer,
) -> Option<()> {
    let asked = Asked::read(&mut BufReader::new(&mut stream))?;
    count.fetch_add(1, Ordering::SeqCst);
    let answer = answer(&asked);
    let Answer { status, headers, body, sent } = &answer;
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    if asked.method != "HEAD" {
        stream.write_all(&body[..*sent.min(&length)]).ok()?;
    }
    stream.flush().ok()
}

impl Asked {
    fn read(from: &mut impl BufRead) -> Option<Self> {
        let lines = from.by_ref().lines().map_while(Result::ok);
        let mut lines = lines.take_while(|line| !line.is_empty());
        let first = lines.next()?;
        let mut first = first.split(' ');
        let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
        let mut asked = Self { method, path, ..Self::default() };
        let mut length = 0;
        for line in lines {
            let (name, value) = line.split_once(": ")?;
            match name.to_ascii_lowercase().as_str() {
                "host" => asked.host = value.to_owned(),
                "content-length" => length = value.parse().ok()?,
                "authorization" => asked.authorization = Some(value.to_owned()),
                "range" => {
                    asked.from = value.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok();
                }
                _ => {}
            }
        }
        from.take(length).read_to_end(&mut asked.body).ok()?;
        Some(asked)
    }
}

impl Answer {
    pub(super) fn ok(body: &[u8]) -> Self {
        Self { status: 200, headers: String::new(), body: body.to_vec(), sent: usize::MAX }
    }

    pub(super) fn status(status: u16) -> Self {
        Self { status, ..Self::ok(b"") }
    }

    /// The rest of something.
    pub(super) fn part(whole: &[u8], from: u64) -> Self {
        let rest = &whole[usize::try_from(from).unwrap()..];
        let range = format!("bytes {from}-{}/{}", whole.len() - 1, whole.len());
        Self { status: 206, ..Self::ok(rest) }.with("content-range", &range)
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers += &format!("{name}: {value}\r\n");
        self
    }

    pub(super) fn cut(self, sent: usize) -> Self {
        Self { sent, ..self }
    }

    pub(super) fn damage(mut self) -> Self {
        let middle = self.body.len() / 2;
        self.body[middle] ^= 1;
        self
    }

    pub(super) fn size(&self) -> usize {
        self.body.len()
    }
}
