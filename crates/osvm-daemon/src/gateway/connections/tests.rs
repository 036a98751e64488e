//! The bytes of clients that are slow, in a hurry, gone, or up to something, before a server that says what it is told.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use osvm_mcp::OnBehalf;
use osvm_mcp::gateway::{Access, Bounds, Naming, Opening, Servers, Stream};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, duplex};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

/// Server processes that answer each call with its text, and what they have heard.
#[derive(Clone, Default)]
struct Echo(Arc<Mutex<Vec<String>>>);

impl Echo {
    fn heard(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer(&self, line: &str) -> Option<Value> {
        let message: Value = serde_json::from_str(line).unwrap();
        let id = message.get("id")?;
        let result = match message["method"].as_str() {
            Some("tools/call") => {
                let text = message["params"]["arguments"]["text"].as_str().unwrap();
                self.0.lock().unwrap().push(text.chars().take(40).collect());
                json!({ "resultType": "complete", "content": [{ "type": "text", "text": text }] })
            }
            _ => json!({ "resultType": "complete", "tools": [] }),
        };
        Some(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
    }
}

impl Servers for Echo {
    fn open<'s>(&'s self, _: &'s str, _: OnBehalf) -> Opening<'s> {
        let (near, far) = duplex(1 << 20);
        let echo = self.clone();
        tokio::spawn(async move {
            let (from, mut to) = tokio::io::split(far);
            let mut lines = BufReader::new(from).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(answer) = echo.answer(&line) {
                    let _ = to.write_all(format!("{answer}\n").as_bytes()).await;
                }
            }
        });
        Box::pin(async { Ok(Box::new(near) as Stream) })
    }

    fn is_shared(&self, _: &str) -> bool {
        false
    }

    fn names(&self) -> Naming<'_> {
        Box::pin(async { Ok(vec!["one".to_owned()]) })
    }
}

struct Serving {
    address: SocketAddr,
    echo: Echo,
    end: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Serving {
    async fn start() -> Self {
        Self::with(None, HEAD_WITHIN).await
    }

    async fn with(tls: Option<Tls>, head_within: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, echo) = (listener.local_addr().unwrap(), Echo::default());
        let gateway = Gateway::new(echo.clone(), Access::default(), Bounds::default());
        let (end, told) = oneshot::channel();
        let endpoint = Endpoint { listener, tls, head_within };
        let ended = tokio::spawn(serve(endpoint, gateway, async {
            told.await.unwrap();
        }));
        Self { address, echo, end, ended }
    }

    async fn client(&self) -> Client {
        Client(BufReader::new(TcpStream::connect(self.address).await.unwrap()))
    }

    /// What comes of these bytes, until either side has said all.
    async fn answers(&self, bytes: &str) -> String {
        let mut client = self.client().await;
        client.0.write_all(bytes.as_bytes()).await.unwrap();
        let _ = client.0.shutdown().await;
        let mut said = Vec::new();
        let _ = client.0.read_to_end(&mut said).await;
        String::from_utf8(said).unwrap()
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
/// How long a head may take where a test waits for the end of that.
const SOON: Duration = Duration::from_secs(1);

struct Client(BufReader<TcpStream>);

impl Client {
    async fn says(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// The next answer, which says how long it is.
    async fn hears(&mut self) -> Value {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            assert_ne!(self.0.read_line(&mut line).await.unwrap(), 0, "there is no answer");
            if let Some(said) = line.to_lowercase().strip_prefix("content-length:") {
                length = said.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// Until the other end has hung up.
    async fn until_left(mut self) {
        let mut rest = Vec::new();
        let left = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        let _ = left.expect("the other end hangs up");
    }
}

const HEAD: &str = "POST /servers/one/mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
     Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n\
     Mcp-Method: tools/call\r\nMcp-Name: echo\r\n";

fn call(id: u64, text: &str) -> String {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "name": "echo", "arguments": { "text": text }, "_meta": meta });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string()
}

fn post(id: u64, text: &str) -> String {
    let body = call(id, text);
    format!("{HEAD}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// The same in chunks of so many bytes.
fn in_chunks(id: u64, text: &str, size: usize) -> String {
    let body = call(id, text);
    let chunks = body
        .as_bytes()
        .chunks(size)
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()));
    format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n", chunks.collect::<String>())
}

fn text(answer: &Value) -> (u64, &str) {
    let text = answer["result"]["content"][0]["text"].as_str();
    (answer["id"].as_u64().unwrap(), text.unwrap_or_else(|| panic!("{answer}")))
}

#[tokio::test]
async fn a_request_is_one_however_its_bytes_arrive() {
    let serving = Serving::start().await;
    let mut client = serving.client().await;
    for (id, size) in [(1, 1), (2, 7), (3, 300)] {
        for piece in post(id, "in pieces").as_bytes().chunks(size) {
            client.says(piece).await;
        }
        assert_eq!(text(&client.hears().await), (id, "in pieces"));
    }
    for (id, size) in [(4, 1), (5, 100)] {
        let mut client = serving.client().await;
        for piece in in_chunks(id, "in chunks", size).as_bytes().chunks(11) {
            client.says(piece).await;
        }
        assert_eq!(text(&client.hears().await), (id, "in chunks"));
    }
}

#[tokio::test]
async fn requests_that_arrive_at_once_are_answered_each_in_their_order() {
    let serving = Serving::start().await;
    let mut client = serving.client().await;
    let texts = ["first", "second", "third"];
    let all: String = texts.iter().zip(1..).map(|(text, id)| post(id, text)).collect();
    client.says(all).await;
    for (expected, id) in texts.iter().zip(1..) {
        assert_eq!(text(&client.hears().await), (id, *expected));
    }
}

#[tokio::test]
async fn a_message_of_16_mib_comes_and_goes_whole() {
    let serving = Serving::start().await;
    let long = "0123456789abcdef".repeat(1 << 20);
    let mut client = serving.client().await;
    client.says(post(1, &long)).await;
    let answer = client.hears().await;
    assert!(text(&answer) == (1, &long), "it is another");
}

#[tokio::test]
async fn who_takes_all_day_to_ask_is_not_waited_for() {
    let serving = Serving::with(None, SOON).await;
    let head = HEAD.as_bytes();
    for first in [&b""[..], b"P", &head[..40], head] {
        let mut client = serving.client().await;
        client.says(first).await;
        client.until_left().await;
    }
    // Nor is one who says a little now and then, and never all of it.
    let (mut from, mut to) = serving.client().await.0.into_inner().into_split();
    let dripping = tokio::spawn(async move {
        let _ = to.write_all(HEAD.as_bytes()).await;
        while to.write_all(b"X").await.is_ok() {
            tokio::time::sleep(SOON / 20).await;
        }
    });
    tokio::time::timeout(PATIENCE, dripping).await.expect("the other end hangs up").unwrap();
    let _ = from.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn who_asks_for_nothing_more_is_not_waited_for() {
    let serving = Serving::with(None, SOON).await;
    let mut client = serving.client().await;
    client.says(post(1, "once")).await;
    assert_eq!(text(&client.hears().await), (1, "once"));
    client.until_left().await;
}

#[tokio::test]
async fn what_could_be_read_as_one_request_or_two_is_not_read_as_two() {
    let serving = Serving::start().await;
    let (body, hidden) = (call(1, "seen"), post(2, "hidden"));
    let (length, longer) = (body.len(), body.len() + hidden.len());
    let (chunk, end) = (format!("{length:x}\r\n{body}\r\n"), "0\r\n\r\n");
    let both = |lines: String| format!("{HEAD}{lines}\r\n{chunk}{end}{hidden}");
    let once = |lines: String| format!("{HEAD}{lines}\r\n{body}{hidden}");
    let said = serving.answers(&[post(1, "seen"), post(2, "not hidden")].concat()).await;
    assert_eq!(said.matches("HTTP/1.1 200").count(), 2, "{said}");
    let asked = [
        both(format!("Content-Length: {longer}\r\nTransfer-Encoding: chunked\r\n")),
        both(format!("Transfer-Encoding: chunked\r\nContent-Length: {longer}\r\n")),
        both("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n".to_owned()),
        both("Transfer-Encoding: chunked, identity\r\n".to_owned()),
        both("Transfer-Encoding: xchunked\r\n".to_owned()),
        both("Transfer-Encoding : chunked\r\n".to_owned()),
        once(format!("Content-Length: {length}\r\nContent-Length: {longer}\r\n")),
        once(format!("Content-Length: {length}, {longer}\r\n")),
        once(format!("Content-Length: +{length}\r\n")),
        once(format!("Content-Length : {length}\r\n")),
        once(format!("Content-Length:\r\n {length}\r\n")),
        once(format!("X: a\rContent-Length: {length}\r\n")),
        once("Content-Length: -1\r\n".to_owned()),
    ];
    for asked in asked {
        let said = serving.answers(&asked).await;
        assert!(said.matches("HTTP/1.1 ").count() <= 1, "{asked}\n\n{said}");
        assert!(!said.contains("\"hidden\""), "{asked}\n\n{said}");
    }
    assert!(!serving.echo.heard().iter().any(|text| text == "hidden"));
}

#[tokio::test]
async fn a_client_that_does_not_agree_on_keys_keeps_nobody_from_ending() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = Tls::of(cert.pem().as_bytes(), signing_key.serialize_pem().as_bytes()).unwrap();
    let serving = Serving::with(Some(tls), HEAD_WITHIN).await;
    let mut silent = TcpStream::connect(serving.address).await.unwrap();
    // Accepted in the order in which they came: the one before was, when this one is talked to.
    let mut plain = TcpStream::connect(serving.address).await.unwrap();
    plain.write_all(b"this is no TLS\r\n").await.unwrap();
    let _ = plain.read_to_end(&mut Vec::new()).await;
    serving.end.send(()).unwrap();
    let ended = tokio::time::timeout(DRAIN / 2, serving.ended).await;
    ended.expect("nobody is waited for").unwrap();
    assert_eq!(silent.read(&mut [0]).await.unwrap_or_default(), 0);
}
