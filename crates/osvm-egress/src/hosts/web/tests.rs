//! Requests that pass, and those that do not.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

fn head(text: &[(&str, &str)], uri: &str, method: &str) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in text {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

#[test]
fn a_request_is_for_the_granted_host_in_every_way_it_says_so() {
    let ok = |fields: &[(&str, &str)], uri: &str| check(&head(fields, uri, "GET"), "a.example");
    assert_eq!(ok(&[("host", "a.example")], "/"), Ok(()));
    assert_eq!(ok(&[("host", "A.Example.:80")], "/"), Ok(()));
    assert_eq!(ok(&[("host", "a.example")], "http://a.example/path"), Ok(()));
    assert_eq!(ok(&[], "/"), Err(RequestError::NoHost));
    let two = [("host", "a.example"), ("host", "evil.com")];
    assert_eq!(ok(&two, "/"), Err(RequestError::TwoHosts));
    let other = |host: &str| Err(RequestError::OtherHost(host.into()));
    assert_eq!(ok(&[("host", "a.example")], "http://evil.com/"), other("evil.com"));
    for host in ["evil.com", "a.example@evil.com", "evil.com@a.example", "a.example,evil.com", ""] {
        assert_eq!(ok(&[("host", host)], "/"), other(host), "{host}");
    }
    let tunnel = check(&head(&[("host", "a.example")], "a.example:80", "CONNECT"), "a.example");
    assert_eq!(tunnel, Err(RequestError::Tunnel));
}

/// The guest's end, the server's end, and how the exchange between them went.
fn exchange() -> (DuplexStream, DuplexStream, tokio::task::JoinHandle<Result<(), WebError>>) {
    let (guest, ours) = duplex(4096);
    let (server, theirs) = duplex(4096);
    let task = tokio::spawn(carry(ours, theirs, "a.example", LIMIT));
    (guest, server, task)
}

/// Reads up to and with `end`.
async fn read_until(stream: &mut DuplexStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        text.push(stream.read_u8().await.unwrap().into());
    }
    text
}

#[tokio::test]
async fn every_request_on_a_connection_is_checked() {
    let (mut guest, mut server, task) = exchange();
    let first =
        b"POST /a HTTP/1.1\r\nHost: a.example\r\nX-Case: Kept\r\nContent-Length: 2\r\n\r\nhi";
    guest.write_all(first).await.unwrap();
    let passed = read_until(&mut server, "hi").await;
    assert!(passed.starts_with("POST /a HTTP/1.1\r\n") && passed.contains("X-Case: Kept\r\n"));
    server.write_all(b"HTTP/1.1 200 Fine\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    assert!(read_until(&mut guest, "ok").await.starts_with("HTTP/1.1 200 Fine\r\n"));

    guest.write_all(b"GET /b HTTP/1.1\r\nHost: evil.com\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    guest.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(answer.ends_with("osvm refuses this request: a request asks for evil.com\n"));
    let error = task.await.unwrap().unwrap_err();
    assert!(matches!(error, WebError::Request(RequestError::OtherHost(_))), "{error}");
    let mut rest = String::new();
    server.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "");
}

#[tokio::test]
async fn a_web_socket_goes_on_as_bytes_both_ways() {
    let (mut guest, mut server, task) = exchange();
    let wish =
        b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    guest.write_all(wish).await.unwrap();
    read_until(&mut server, "\r\n\r\n").await;
    let switch = b"HTTP/1.1 101 Fine\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
    server.write_all(switch).await.unwrap();
    read_until(&mut guest, "\r\n\r\n").await;
    assert_eq!(read_until(&mut guest, "first").await, "first");
    guest.write_all(b"second").await.unwrap();
    assert_eq!(read_until(&mut server, "second").await, "second");
    drop((guest, server));
    let _ = task.await.unwrap();
}

#[tokio::test]
async fn a_wish_for_http_2_is_not_passed_on() {
    let (mut guest, mut server, _task) = exchange();
    let wish = b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    guest.write_all(wish).await.unwrap();
    let passed = read_until(&mut server, "\r\n\r\n").await.to_lowercase();
    assert!(!passed.contains("h2c"), "{passed}");
}

#[tokio::test]
async fn what_is_no_http_1_is_refused() {
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"SSH-2.0-OpenSSH_9.2\r\n\r\n"] {
        let (mut guest, mut server, task) = exchange();
        guest.write_all(bytes).await.unwrap();
        assert!(matches!(task.await.unwrap(), Err(WebError::Guest(_))));
        let mut passed = Vec::new();
        server.read_to_end(&mut passed).await.unwrap();
        assert_eq!(passed, b"");
    }
}

#[tokio::test]
async fn a_server_that_ends_ends_the_connection_when_its_response_has_passed() {
    let (mut guest, mut server, task) = exchange();
    guest.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await.unwrap();
    read_until(&mut server, "\r\n\r\n").await;
    server.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await.unwrap();
    drop(server);
    let mut answer = String::new();
    guest.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("until the end"), "{answer}");
    task.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_first_request_that_does_not_come_is_not_waited_for() {
    let (_guest, _server, task) = exchange();
    let error = task.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "it sent no request in 10 s");
}
