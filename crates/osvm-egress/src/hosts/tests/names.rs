//! What names lead to, and may.

use std::fs;

use tokio::io::AsyncReadExt;

use super::guest::{allow, connect, refusal};
use super::net::{Net, accepted, listen, within};

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_name_that_leads_inside_leads_nowhere() {
    let net = Net::new(&[
        ("metadata.evil.com", &["169.254.169.254"]),
        ("private.evil.com", &["10.0.0.1"]),
        ("own.evil.com", &["127.0.0.1"]),
        ("mapped.evil.com", &["::ffff:127.0.0.1"]),
        ("six.evil.com", &["::1", "fd00::1"]),
        ("nat.evil.com", &["64:ff9b::7f00:1"]),
        ("fake.evil.com", &["198.18.0.5"]),
    ])
    .await;
    // Whoever came here would be heard.
    let listener = listen("[::]:5000").await;
    let rules = allow(&["*.evil.com:5000", "localhost:5000"]);
    for (host, why) in [
        ("metadata.evil.com", "169.254.169.254 is a link-local or metadata address"),
        ("private.evil.com", "10.0.0.1 is a private address"),
        ("own.evil.com", "127.0.0.1 is the host's own loopback"),
        ("mapped.evil.com", "127.0.0.1 is the host's own loopback"),
        ("six.evil.com", "::1 is the host's own loopback"),
        ("nat.evil.com", "64:ff9b::7f00:1 is the host's own loopback"),
        ("fake.evil.com", "198.18.0.5 is a reserved address"),
        ("localhost", "127.0.0.1 is the host's own loopback"),
    ] {
        let refused = refusal(&net, &rules, host, 5000).await;
        assert!(refused.starts_with(why), "{host}: {refused}");
    }
    let lines = net.close().await;
    assert_eq!(lines.len(), 8);
    assert!(lines.iter().all(|line| line.starts_with("refused ")), "{lines:?}");
    assert!(is_pending(listener.accept()), "nobody has connected");
}

/// Whether it would still have to be waited for.
fn is_pending<F: Future>(future: F) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::pin!(future).poll(&mut context).is_pending()
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_name_with_more_addresses_than_a_packet_holds_is_asked_for_over_tcp() {
    const ADDRESSES: &[&str] = &[
        "10.0.0.1",
        "10.0.0.2",
        "10.0.0.3",
        "10.0.0.4",
        "10.0.0.5",
        "10.0.0.6",
        "10.0.0.7",
        "10.0.0.8",
        "203.0.113.7",
    ];
    let net = Net::new(&[("large.example", ADDRESSES)]).await;
    let listener = listen("203.0.113.7:5000").await;
    let rules = allow(&["large.example:5000"]);
    let guest = connect(&net, &rules, "large.example", 5000).await.unwrap();
    accepted(&listener).await;
    drop(guest);
    net.close().await;
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn of_a_names_addresses_those_that_may_be_are_tried_in_their_order() {
    let net = Net::new(&[(
        "mixed.example",
        &["10.0.0.1", "203.0.113.8", "127.0.0.1", "203.0.113.7", "2001:db8::7"],
    )])
    .await;
    let rules = allow(&["mixed.example:5000"]);
    // Nobody listens on 203.0.113.8.
    let listener = listen("203.0.113.7:5000").await;
    let six = listen("[2001:db8::7]:5000").await;
    let guest = connect(&net, &rules, "mixed.example", 5000).await.unwrap();
    accepted(&listener).await;
    drop(listener);
    let other = connect(&net, &rules, "mixed.example", 5000).await.unwrap();
    accepted(&six).await;
    drop((six, guest, other));
    let failed = refusal(&net, &rules, "mixed.example", 5000).await;
    assert!(failed.contains("[2001:db8::7]:5000 can't be reached: "), "{failed}");
    let lines = net.close().await;
    assert!(lines.iter().any(|line| line.starts_with("failed mixed.example:5000: ")), "{lines:?}");
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn addresses_and_the_host_itself_are_reached_where_a_rule_says_so() {
    let net = Net::new(&[]).await;
    let six = listen("[2001:db8::7]:5000").await;
    let own = listen("127.0.0.1:5000").await;
    let rules = allow(&["[2001:db8::/32]:5000", "host.osvm.internal:5000"]);
    let first = connect(&net, &rules, "2001:db8::7", 5000).await.unwrap();
    accepted(&six).await;
    let second = connect(&net, &rules, "host.osvm.internal", 5000).await.unwrap();
    accepted(&own).await;
    let why = refusal(&net, &rules, "127.0.0.1", 5000).await;
    assert_eq!(why, "no rule allows it; hint: --allow 127.0.0.1:5000");
    drop((first, second));
    let lines = net.lines(3).await.join("\n");
    assert!(lines.contains("allowed [2001:db8::7]:5000 2001:db8::7 "), "{lines}");
    assert!(lines.contains("allowed host.osvm.internal:5000 127.0.0.1 "), "{lines}");
    net.close().await;
}

#[tokio::test]
#[ignore = "started by the test that makes its network"]
async fn a_change_of_the_hosts_configuration_is_seen() {
    let net = Net::new(&[("moved.example", &["203.0.113.7"])]).await;
    let rules = allow(&["moved.example:5000", "none.example"]);
    let (old, new) = (listen("203.0.113.7:5000").await, listen("203.0.113.8:5000").await);
    let mut first = connect(&net, &rules, "moved.example", 5000).await.unwrap();
    drop(accepted(&old).await);
    within(first.read_to_end(&mut Vec::new())).await.unwrap();

    fs::write(net.folder.path().join("hosts"), "203.0.113.8 moved.example\n").unwrap();
    let _second = connect(&net, &rules, "moved.example", 5000).await.unwrap();
    accepted(&new).await;
    assert_eq!(refusal(&net, &rules, "none.example", 443).await, "there is no such host");
    net.close().await;
}
