//! What is asked for inside a connection is what was granted.

use std::sync::Arc;

use osvm_spec::Hosts;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::chunked::Chunked;
use super::guest::{allow, connect};
use super::net::{Net, accepted, listen, within};

/// A server's and a client's side, with a certificate for all names of the tests.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let names = ["a.example", "evil.com", "203.0.113.7"].map(str::to_owned);
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (Arc::new(server).into(), Arc::new(client).into())
}

/// A TLS client in the guest that was granted `host` says `name`.
async fn talk(net: &Net, rules: &Hosts, host: &str, name: &'static str) -> std::io::Result<()> {
    let (acceptor, connector) = tls();
    let listener = listen("203.0.113.7:443").await;
    let guest = connect(net, rules, host, 443).await.unwrap();
    let server = tokio::spawn(echo(listener, acceptor));
    let mut guest = within(connector.connect(name.try_into().unwrap(), guest)).await?;
    guest.write_all(b"hello").await?;
    guest.shutdown().await?;
    let mut echoed = String::new();
    within(guest.read_to_string(&mut echoed)).await?;
    assert_eq!(echoed, "hello");
    within(server).await.unwrap();
    Ok(())
}

async fn echo(listener: TcpListener, acceptor: TlsAcceptor) {
    let Ok(mut stream) = acceptor.accept(accepted(&listener).await).await else { return };
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    stream.write_all(&text).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_tls_client_that_asks_for_the_granted_host_is_carried() {
    let net = Net::new(&[("a.example", &["203.0.113.7"])]).await;
    talk(&net, &allow(&["a.example"]), "a.example", "a.example").await.unwrap();
    let lines = net.lines(1).await;
    assert!(lines[0].starts_with("allowed a.example:443 203.0.113.7 sent "), "{lines:?}");
    net.close().await;
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_tls_client_that_asks_for_another_host_is_told_no() {
    let net = Net::new(&[("a.example", &["203.0.113.7"])]).await;
    let error = talk(&net, &allow(&["a.example"]), "a.example", "evil.com").await.unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    let lines = net.close().await;
    assert_eq!(lines, ["refused a.example:443: its TLS hello asks for evil.com"]);
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_granted_address_may_have_any_name() {
    let net = Net::new(&[]).await;
    let rules = allow(&["203.0.113.0/24"]);
    for name in ["evil.com", "203.0.113.7"] {
        talk(&net, &rules, "203.0.113.7", name).await.unwrap();
    }
    net.close().await;
}

/// All that the server's side gets from a guest which sends `bytes`.
async fn passed(net: &Net, port: u16, bytes: &[u8]) -> (Vec<u8>, Chunked<UnixStream>) {
    let listener = listen(&format!("203.0.113.7:{port}")).await;
    let mut guest = connect(net, &allow(&["a.example"]), "a.example", port).await.unwrap();
    let mut server = accepted(&listener).await;
    guest.write_all(bytes).await.unwrap();
    guest.shutdown().await.unwrap();
    let mut passed = Vec::new();
    within(server.read_to_end(&mut passed)).await.unwrap();
    (passed, guest)
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn nothing_of_another_protocol_passes_on_the_webs_ports() {
    let net = Net::new(&[("a.example", &["203.0.113.7"])]).await;
    let (on_443, _guest) = passed(&net, 443, b"SSH-2.0-OpenSSH_9.2\r\n").await;
    let (on_80, _guest) = passed(&net, 80, b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
    assert!(on_443.is_empty() && on_80.is_empty());
    let lines = net.close().await;
    assert!(
        lines[0].starts_with("refused a.example:443: it begins with no TLS hello"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("refused a.example:80: the guest's HTTP can't be read"),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 2);
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_web_request_passes_for_the_granted_host_alone() {
    let net = Net::new(&[("a.example", &["203.0.113.7"])]).await;
    let listener = listen("203.0.113.7:80").await;
    let mut guest = connect(&net, &allow(&["a.example"]), "a.example", 80).await.unwrap();
    let mut server = accepted(&listener).await;
    let ours = b"GET /path HTTP/1.1\r\nHost: a.example\r\n\r\n";
    guest.write_all(ours).await.unwrap();
    let mut passed_on = vec![0; ours.len()];
    within(server.read_exact(&mut passed_on)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&passed_on), String::from_utf8_lossy(ours));
    server.write_all(b"HTTP/1.1 204 Fine\r\n\r\n").await.unwrap();
    drop((server, listener));
    let mut answer = String::new();
    within(guest.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204 Fine\r\n"), "{answer}");

    let (none, mut guest) = passed(&net, 80, b"GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n").await;
    assert!(none.is_empty());
    let mut answer = String::new();
    within(guest.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden"), "{answer}");
    let lines = net.close().await;
    let refused = "refused a.example:80: a request asks for evil.com".to_owned();
    assert!(lines.contains(&refused), "{lines:?}");
}
