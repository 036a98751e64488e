//! How bytes flow, and end.

use std::time::Duration;

use osvm_wire::grant::HostRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::guest::{allow, connect, refusal, say};
use super::net::{Net, Zone, accepted, listen, within};

const MIB: u64 = 1024 * 1024;

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn each_direction_of_a_connection_ends_by_itself() {
    let net = Net::new(&[("a.example", &["203.0.113.7"])]).await;
    let listener = listen("203.0.113.7:5000").await;
    let mut guest = connect(&net, &allow(&["a.example:5000"]), "a.example", 5000).await.unwrap();
    let mut server = accepted(&listener).await;
    // The server speaks first.
    server.write_all(b"welcome").await.unwrap();
    let mut words = [0; 7];
    within(guest.read_exact(&mut words)).await.unwrap();
    assert_eq!(&words, b"welcome");

    guest.write_all(b"question").await.unwrap();
    guest.shutdown().await.unwrap();
    let mut question = String::new();
    within(server.read_to_string(&mut question)).await.unwrap();
    server.write_all(b"answer").await.unwrap();
    drop(server);
    let mut answer = String::new();
    within(guest.read_to_string(&mut answer)).await.unwrap();
    assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));

    let lines = net.lines(1).await;
    let start = "allowed a.example:5000 203.0.113.7 sent 8 received 13 in ";
    assert!(lines[0].starts_with(start) && lines[0].ends_with(" s"), "{lines:?}");
    net.close().await;
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn what_a_guest_does_not_read_is_not_read_for_it() {
    const ALL: u64 = 64 * MIB;
    let net = Net::new(&[("a.example", &["203.0.113.7"])]).await;
    let listener = listen("203.0.113.7:5000").await;
    let mut guest = connect(&net, &allow(&["a.example:5000"]), "a.example", 5000).await.unwrap();
    let mut server = accepted(&listener).await;
    let before = net.peak();

    let mut flood = tokio::spawn(async move {
        let piece = vec![7; 256 * 1024];
        for _ in 0..ALL / piece.len() as u64 {
            server.write_all(&piece).await.unwrap();
        }
    });
    let early = tokio::time::timeout(Duration::from_secs(2), &mut flood).await;
    assert!(early.is_err(), "the server could send all while the guest read nothing");
    let received = within(tokio::io::copy(&mut guest, &mut tokio::io::sink())).await.unwrap();
    within(flood).await.unwrap();
    assert_eq!(received, ALL);
    assert!(net.peak() - before < 4 * MIB, "{} after {before}", net.peak());
    net.close().await;
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_large_upload_arrives_whole() {
    const ALL: usize = 64 << 20;
    let net = Net::new(&[("a.example", &["203.0.113.7"])]).await;
    let listener = listen("203.0.113.7:5000").await;
    let mut guest = connect(&net, &allow(&["a.example:5000"]), "a.example", 5000).await.unwrap();
    let mut server = accepted(&listener).await;
    let pattern = |from: usize| (from..from + 65_536).map(|at| (at / 7) as u8).collect::<Vec<_>>();
    let upload = async {
        for from in (0..ALL).step_by(65_536) {
            guest.write_all(&pattern(from)).await.unwrap();
        }
        guest.shutdown().await.unwrap();
    };
    let check = async {
        let mut piece = vec![0; 65_536];
        for from in (0..ALL).step_by(65_536) {
            server.read_exact(&mut piece).await.unwrap();
            assert!(piece == pattern(from), "at {from}");
        }
        assert_eq!(server.read(&mut piece).await.unwrap(), 0);
    };
    within(async { tokio::join!(upload, check) }).await;
    net.close().await;
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn an_idle_connection_is_closed() {
    const ZONE: Zone = &[("a.example", &["203.0.113.7"])];
    let net = Net::with(ZONE, "", Duration::from_millis(50)).await;
    let listener = listen("203.0.113.7:5000").await;
    let mut guest = connect(&net, &allow(&["a.example:5000"]), "a.example", 5000).await.unwrap();
    let mut server = accepted(&listener).await;
    within(guest.read_u8()).await.unwrap_err();
    assert_eq!(within(server.read(&mut [0])).await.unwrap(), 0);
    let lines = net.lines(1).await;
    assert!(lines[0].contains("; no byte either way for "), "{lines:?}");
    net.close().await;
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_connection_that_is_open_when_the_daemon_ends_is_logged() {
    let net = Net::new(&[("a.example", &["203.0.113.7"])]).await;
    let listener = listen("203.0.113.7:5000").await;
    let guest = connect(&net, &allow(&["a.example:5000"]), "a.example", 5000).await.unwrap();
    let server = accepted(&listener).await;
    let lines = net.close().await;
    assert!(lines[0].starts_with("allowed a.example:5000 203.0.113.7 sent 0"), "{lines:?}");
    drop((guest, server));
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn what_the_guest_refused_or_garbled_is_logged() {
    let net = Net::new(&[]).await;
    let rules = allow(&["a.example"]);
    for (host, port) in [("evil.com", Some(443)), ("evil.com", None), ("a b", Some(1))] {
        let mut stream = net.stream(&rules).await;
        say(&mut stream, &HostRequest::Refused { host: host.to_owned(), port }).await;
        assert_eq!(within(stream.read(&mut [0])).await.unwrap(), 0);
    }
    let mut stream = net.stream(&rules).await;
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let lines = net.lines(4).await;
    assert_eq!(
        lines,
        [
            "refused evil.com:443 in the guest: no rule allows it; hint: --allow evil.com",
            "refused evil.com in the guest: no rule allows it; hint: --allow evil.com",
            "refused \"a b\":1 in the guest: it is neither a host name nor an address",
            "refused -: a request can't be read: \
             peer speaks protocol version 71, this side speaks version 1",
        ]
    );
    net.close().await;
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn the_thread_that_reads_guests_bytes_has_given_up_its_rights() {
    let net = Net::new(&[]).await;
    let mut stream = net.stream(&allow(&[])).await;
    say(&mut stream, &HostRequest::Refused { host: "a".to_owned(), port: None }).await;
    net.lines(1).await;
    let has_given_up = |status: &String| {
        let none = "\t0000000000000000";
        ["NoNewPrivs:\t1", "Seccomp:\t2", &format!("CapEff:{none}"), &format!("CapPrm:{none}")]
            .iter()
            .all(|line| status.contains(line))
    };
    let threads = net.threads();
    assert!(threads.iter().any(has_given_up), "{threads:?}");
    net.close().await;
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_vm_has_so_many_connections_at_a_time() {
    let net = Net::new(&[]).await;
    let listener = listen("203.0.113.7:5000").await;
    let rules = allow(&["listed.example:5000"]);
    let mut open = Vec::new();
    for _ in 0..128 {
        let guest = connect(&net, &rules, "listed.example", 5000).await.unwrap();
        open.push((guest, accepted(&listener).await));
    }
    let why = refusal(&net, &rules, "listed.example", 5000).await;
    assert_eq!(why, "this VM has 128 connections, and may have no more");
    open.clear();
    net.lines(129).await;
    assert!(connect(&net, &rules, "listed.example", 5000).await.is_ok());
    net.close().await;
}
