//! Programs in a network of their own, which reach a host that is this test.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use osvm_wire::HOSTS_PORT;
use osvm_wire::chunk;
use osvm_wire::grant::{Grants, HostAnswer, HostGrant, HostRequest};
use osvm_wire::message::{Reply, Request, Spawn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, lookup_host};
use tokio::sync::mpsc;

use crate::agent::tests::host::{Client, agent, ask, shell};
use crate::alone;
use crate::reach::host::HostStream;
use crate::reach::host::tests::{Accepted, direct};
use crate::reach::{Host, hosts};
use crate::talk::Talk;

const DEADLINE: Duration = Duration::from_secs(30);

/// Connects everywhere but to `no.example.com`: says where, then repeats what it is told. Refusals of the guest
/// come out at the other end of `refused`.
async fn serve(mut accepted: Accepted, refused: mpsc::UnboundedSender<(String, Option<u16>)>) {
    while let Some((port, stream)) = accepted.recv().await {
        assert_eq!(port, HOSTS_PORT);
        tokio::spawn(serve_one(Talk::new(stream), refused.clone()));
    }
}

async fn serve_one(
    mut talk: Talk<HostStream>,
    refused: mpsc::UnboundedSender<(String, Option<u16>)>,
) {
    match talk.incoming.receive().await.unwrap().unwrap() {
        HostRequest::Refused { host, port } => refused.send((host, port)).unwrap(),
        HostRequest::Tried { .. } => panic!("nobody tries paths"),
        HostRequest::Connect { host, .. } if host == "no.example.com" => {
            talk.answer_with(&HostAnswer::Refused { why: "not today".into() }).await;
        }
        HostRequest::Connect { host, port } => {
            talk.outgoing.send(&HostAnswer::Connected).await.unwrap();
            let (mut read, mut write) = (talk.incoming.into_bytes(), talk.outgoing.into_bytes());
            let greeting = format!("{host} {port}: ");
            write.write_all(&chunk::header(greeting.len())).await.unwrap();
            write.write_all(greeting.as_bytes()).await.unwrap();
            tokio::io::copy(&mut read, &mut write).await.unwrap();
        }
    }
}

impl Talk<HostStream> {
    async fn answer_with(&mut self, answer: &HostAnswer) {
        self.outgoing.send(answer).await.unwrap();
    }
}

/// What comes back from a connection after `text` was sent and ended.
async fn exchange(mut stream: TcpStream, text: &str) -> io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn reach(to: impl tokio::net::ToSocketAddrs) -> io::Result<String> {
    exchange(TcpStream::connect(to).await?, "hello").await
}

async fn ask_proxy(request: &str) -> String {
    exchange(TcpStream::connect("127.0.0.1:3128").await.unwrap(), request).await.unwrap()
}

fn grant(host: &str, ports: &[u16]) -> HostGrant {
    HostGrant { host: host.to_owned(), ports: ports.to_vec() }
}

/// Lets this process's C library ask the agent.
fn use_resolver(etc: &Path) {
    let own = etc.join("resolv.conf");
    rustix::mount::mount_bind(own, Path::new("/etc/resolv.conf").canonicalize().unwrap()).unwrap();
}

/// A host that is linked for as long as the second of these lives, and what it is told of refusals.
fn world() -> (Host, impl Sized, mpsc::UnboundedReceiver<(String, Option<u16>)>) {
    crate::netlink::loopback_up().unwrap();
    let host = Host::default();
    let (link, accepted) = direct();
    let linked = host.linked(link);
    let (sender, refused) = mpsc::unbounded_channel();
    tokio::spawn(serve(accepted, sender));
    (host, linked, refused)
}

async fn tell_what_is_reached() {
    let (host, _linked, mut refused) = world();
    let hosts = vec![
        grant("api.example.com", &[443, 80]),
        grant("no.example.com", &[443]),
        grant("*.wild.example", &[8443]),
        grant("192.0.2.0/28", &[7777]),
        grant("10.0.0.0/8", &[7778, 443]),
        grant("2001:db8::7", &[7777]),
        grant("2001:db8:1::/64", &[7777]),
    ];
    let etc = tempfile::tempdir().unwrap();
    let grants = Grants { hosts, ..Grants::default() };
    hosts::start(&grants, &host, 8, Some(etc.path())).await.unwrap();
    use_resolver(etc.path());

    assert_eq!(reach("api.example.com:443").await.unwrap(), "api.example.com 443: hello");
    assert_eq!(reach("API.example.com:80").await.unwrap(), "api.example.com 80: hello");
    assert_eq!(reach("a.b.wild.example:8443").await.unwrap(), "a.b.wild.example 8443: hello");
    assert_eq!(reach("192.0.2.9:7777").await.unwrap(), "192.0.2.9 7777: hello");
    assert_eq!(reach("10.9.8.7:7778").await.unwrap(), "10.9.8.7 7778: hello");
    assert_eq!(reach("10.9.8.7:443").await.unwrap(), "10.9.8.7 443: hello");
    assert_eq!(reach("[2001:db8::7]:7777").await.unwrap(), "2001:db8::7 7777: hello");
    assert_eq!(reach("[2001:db8:1::9]:7777").await.unwrap(), "2001:db8:1::9 7777: hello");

    let kind = |reached: io::Result<String>| reached.unwrap_err().kind();
    assert_eq!(kind(reach("no.example.com:443").await), io::ErrorKind::ConnectionReset);
    assert_eq!(kind(reach("8.8.8.8:443").await), io::ErrorKind::NetworkUnreachable);
    assert_eq!(kind(reach("192.0.2.9:22").await), io::ErrorKind::ConnectionRefused);
    assert_eq!(kind(reach("api.example.com:22").await), io::ErrorKind::ConnectionRefused);
    assert_eq!(refused.recv().await.unwrap(), ("api.example.com".into(), Some(22)));
    let missing = reach("evil.example:443").await.unwrap_err().to_string();
    assert!(missing.contains("Name or service not known"), "{missing}");
    assert_eq!(refused.recv().await.unwrap(), ("evil.example".into(), None));

    let local: Vec<SocketAddr> = lookup_host("any.localhost:1").await.unwrap().collect();
    assert!(local.iter().all(|address| address.ip().is_loopback()) && !local.is_empty());

    let query = b"\0\x1e\0\x07\x01\0\0\x01\0\0\0\0\0\0\x04wild\x07example\0\0\x01\0\x01";
    let mut resolver = TcpStream::connect("127.0.0.1:53").await.unwrap();
    for _ in 0..2 {
        resolver.write_all(query).await.unwrap();
        let mut answer = [0; 32];
        resolver.read_exact(&mut answer).await.unwrap();
        // No such name: a wildcard's own name is not among those below it.
        assert_eq!(answer[..6], *b"\0\x1e\0\x07\x81\x83");
    }
    assert_eq!(refused.recv().await.unwrap(), ("wild.example".into(), None));

    let answer = ask_proxy("CONNECT api.example.com:443 HTTP/1.1\r\n\r\nearly").await;
    let expected = "HTTP/1.1 200 Connection established\r\n\r\napi.example.com 443: early";
    assert_eq!(answer, expected);
    let answer = ask_proxy("GET http://10.0.0.1:443/x HTTP/1.1\r\nA: b\r\n\r\n").await;
    let expected =
        "10.0.0.1 443: GET /x HTTP/1.1\r\nHost: 10.0.0.1:443\r\nA: b\r\nConnection: close\r\n\r\n";
    assert_eq!(answer, expected);
    let answer = ask_proxy("CONNECT evil.example:80 HTTP/1.1\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("not allowed for this server\n")
    );
    assert_eq!(refused.recv().await.unwrap(), ("evil.example".into(), Some(80)));
    let answer = ask_proxy("CONNECT no.example.com:443 HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("not today\n"), "{answer}");
    assert!(ask_proxy("GET / HTTP/1.1\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}

/// Nothing is granted, and everything that is tried is told.
async fn tell_what_is_tried() {
    let (host, _linked, mut refused) = world();
    let etc = tempfile::tempdir().unwrap();
    let grants = Grants { record: true, ..Grants::default() };
    hosts::start(&grants, &host, 8, Some(etc.path())).await.unwrap();
    use_resolver(etc.path());

    let kind = |reached: io::Result<String>| reached.unwrap_err().kind();
    for (to, told) in [
        ("api.example.com:5432", vec![("api.example.com", None), ("api.example.com", Some(5432))]),
        ("203.0.113.7:22", vec![("203.0.113.7", Some(22))]),
        ("10.1.2.3:443", vec![("10.1.2.3", Some(443))]),
    ] {
        assert_eq!(kind(reach(to).await), io::ErrorKind::ConnectionRefused, "{to}");
        for (host, port) in told {
            assert_eq!(refused.recv().await.unwrap(), (host.to_owned(), port));
        }
    }
    assert_eq!(kind(reach("127.0.0.1:9").await), io::ErrorKind::ConnectionRefused);
    let answer = ask_proxy("CONNECT evil.example:80 HTTP/1.1\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(refused.recv().await.unwrap(), ("evil.example".into(), Some(80)));
}

/// Programs learn of the proxy, unless they are told otherwise.
async fn tell_of_the_proxy() {
    crate::netlink::loopback_up().unwrap();
    let agent = agent();
    let hosts = vec![grant("api.example.com", &[443])];
    let grants = Grants { hosts, ..Grants::default() };
    let script = "echo $http_proxy $HTTPS_PROXY $no_proxy";
    let before = Client::run(&agent, shell(1, script), b"").await;
    assert_eq!(before.stdout.text(), "\n");
    assert_eq!(ask(&agent, Request::Grant(grants)).await, Reply::Granted);
    let after = Client::run(&agent, shell(2, script), b"").await;
    let proxy = "http://127.0.0.1:3128";
    assert_eq!(after.stdout.text(), format!("{proxy} {proxy} localhost,127.0.0.1,::1\n"));
    let env = vec![("https_proxy".to_owned(), String::new())];
    let told = Client::run(&agent, Spawn { env, ..shell(3, script) }, b"").await;
    assert_eq!(told.stdout.text(), format!("{proxy} localhost,127.0.0.1,::1\n"));
}

fn alone(story: impl Future<Output = ()>) {
    if alone::inside() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = async { tokio::time::timeout(DEADLINE, story).await.expect("in time") };
        runtime.block_on(told);
    }
}

#[test]
fn granted_hosts_are_reached_by_name_by_address_and_by_proxy_and_others_are_not() {
    alone(tell_what_is_reached());
}

#[test]
fn while_recording_every_name_and_address_that_is_tried_is_refused_and_told() {
    alone(tell_what_is_tried());
}

#[test]
fn programs_are_offered_the_proxy_once_hosts_are_granted() {
    alone(tell_of_the_proxy());
}
