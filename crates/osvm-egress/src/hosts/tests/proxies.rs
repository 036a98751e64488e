//! Through the host's proxy.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::guest::{allow, connect, refusal};
use super::net::{Net, Zone, accepted, listen, within};

const IDLE: Duration = Duration::from_secs(600);
const ZONE: Zone = &[("private.example", &["10.0.0.1"]), ("a.example", &["203.0.113.8"])];

/// A network whose proxy is `listed.example`, which only the list of hosts knows.
async fn net() -> Net {
    Net::with(ZONE, "http://me:pass@listed.example:3128", IDLE).await
}

/// Reads the proxy's request, and returns its lines.
async fn request(stream: &mut BufReader<TcpStream>) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        within(stream.read_line(&mut line)).await.unwrap();
        match line.trim_end() {
            "" => return lines,
            line => lines.push(line.to_lowercase()),
        }
    }
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_proxy_makes_the_connection_even_to_what_only_it_knows() {
    let net = net().await;
    let proxy = listen("203.0.113.7:3128").await;
    let rules = allow(&["a.example:5000", "only-the-proxy.example:5000"]);
    for host in ["a.example", "only-the-proxy.example"] {
        let serve = async {
            let mut stream = BufReader::new(accepted(&proxy).await);
            let lines = request(&mut stream).await;
            // What the server says first comes with the proxy's answer.
            stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\nwelcome").await.unwrap();
            (lines, stream)
        };
        let (guest, (lines, mut stream)) = tokio::join!(connect(&net, &rules, host, 5000), serve);
        assert_eq!(lines[0], format!("connect {host}:5000 http/1.1"));
        assert!(lines.contains(&"proxy-authorization: basic bwu6cgfzcw==".to_owned()), "{lines:?}");

        let mut guest = guest.unwrap();
        guest.write_all(b"question").await.unwrap();
        guest.shutdown().await.unwrap();
        let mut question = String::new();
        within(stream.read_to_string(&mut question)).await.unwrap();
        stream.write_all(b" back").await.unwrap();
        drop(stream);
        let mut answer = String::new();
        within(guest.read_to_string(&mut answer)).await.unwrap();
        assert_eq!((question.as_str(), answer.as_str()), ("question", "welcome back"));
    }
    let lines = net.lines(2).await;
    let start = "allowed a.example:5000 via listed.example:3128 sent 8 received 12 in ";
    assert!(lines[0].starts_with(start), "{lines:?}");
    net.close().await;
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_proxy_is_not_asked_for_what_is_known_to_be_private() {
    let net = net().await;
    let own = listen("127.0.0.1:5000").await;
    let rules = allow(&["private.example", "host.osvm.internal:5000"]);
    let why = refusal(&net, &rules, "private.example", 443).await;
    assert!(why.starts_with("10.0.0.1 is a private address"), "{why}");
    let _guest = connect(&net, &rules, "host.osvm.internal", 5000).await.unwrap();
    accepted(&own).await;
    net.close().await;
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_proxys_refusal_is_passed_on() {
    let net = net().await;
    let proxy = listen("203.0.113.7:3128").await;
    let serve = async {
        let mut stream = BufReader::new(accepted(&proxy).await);
        request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 407 Who are you?\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    };
    let rules = allow(&["a.example"]);
    let (why, ()) = tokio::join!(refusal(&net, &rules, "a.example", 443), serve);
    assert_eq!(why, "the proxy refuses the connection: 407 Proxy Authentication Required");
    let lines = net.close().await;
    assert_eq!(lines[0], format!("failed a.example:443: {why}"));
}
