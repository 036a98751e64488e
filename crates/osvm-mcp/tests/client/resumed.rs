//! A client that goes on where another one ended, possibly in the middle of a line.

use osvm_mcp::{Client, Limits, ServerInfo};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::peer::{Peer, ask, connected, info, pair};

fn resume(era: &str, last_id: u64) -> (Peer, Client) {
    let server = json!({ "era": era, "protocol_version": "2025-11-25", "capabilities": {} });
    let server: ServerInfo = serde_json::from_str(&server.to_string()).unwrap();
    let (peer, (reader, writer)) = pair();
    (peer, Client::resume(reader, writer, info(), server, Limits::default(), last_id))
}

#[tokio::test]
async fn what_the_earlier_client_left_half_done_does_no_harm() {
    let (mut peer, client) = resume("legacy", 1000);
    let server = async {
        assert_eq!(peer.read_line().await, "\n", "a line begun earlier is ended first");
        let request = peer.expect("a").await;
        assert_eq!(request["id"], 1001);
        peer.output.write_all(b"f a line\"}\n").await.unwrap();
        peer.send(r#"{"jsonrpc":"2.0","id":7,"result":"for the earlier client"}"#).await;
        peer.answer(&request, json!("for this one")).await;
    };
    let (answer, ()) = tokio::join!(ask(&client, "a"), server);
    assert_eq!(answer.unwrap(), json!("for this one"));
    assert_eq!((client.received().garbage, client.received().strays), (1, 1));
    assert!(client.is_open());
    drop(peer);
    client.closed().await;
    assert!(!client.is_open());
}

#[tokio::test]
async fn the_era_goes_on_too() {
    let (mut peer, client) = resume("modern", 1);
    assert_eq!(peer.read_line().await, "\n");
    peer.send(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    let (answer, request) = tokio::join!(ask(&client, "a"), peer.serve("a", json!(1)));
    assert_eq!(answer.unwrap(), json!(1));
    assert_ne!(request["params"]["_meta"], Value::Null);
}

#[tokio::test]
async fn what_a_server_said_of_itself_survives_being_written_down() {
    let (_peer, client) = connected(Limits::default()).await;
    let noted = serde_json::to_string(client.server()).unwrap();
    let read: ServerInfo = serde_json::from_str(&noted).unwrap();
    assert_eq!(read.capabilities.get(), client.server().capabilities.get());
    assert_eq!((read.era, read.name.as_deref()), (client.server().era, Some("peer")));
    assert!(read.declares("prompts") && !read.declares("resources"));
}
