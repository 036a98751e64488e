//! Which era a server speaks, and how it is found out.

use osvm_mcp::{Client, Era, Limits, McpError};
use serde_json::{Value, json};

use crate::peer::{LONG, Peer, ask, info, pair, raw};

async fn meet<T>(play: impl AsyncFnOnce(Peer) -> T) -> (Result<Client, McpError>, T) {
    let (peer, (reader, writer)) = pair();
    tokio::join!(Client::connect(reader, writer, info(), Limits::default()), play(peer))
}

fn discovered(versions: &[&str]) -> Value {
    json!({
        "resultType": "complete",
        "supportedVersions": versions,
        "capabilities": { "tools": {} },
        "instructions": "hello",
        "_meta": { "io.modelcontextprotocol/serverInfo": { "name": "new", "version": "2" } },
    })
}

#[tokio::test]
async fn a_legacy_server_may_answer_with_any_version_of_its_own() {
    let (client, ()) = meet(async |mut peer| {
        let result = json!({ "protocolVersion": "2024-10-07", "capabilities": { "tools": {} } });
        let offer = peer.serve("initialize", result).await;
        assert_eq!(offer["params"]["protocolVersion"], "2025-11-25");
        assert_eq!(offer["params"]["clientInfo"], json!({ "name": "test", "version": "1" }));
        peer.expect("notifications/initialized").await;
    })
    .await;
    let client = client.unwrap();
    let server = client.server();
    assert_eq!((server.era, &*server.protocol_version), (Era::Legacy, "2024-10-07"));
    assert_eq!((&server.name, server.capabilities.get()), (&None, r#"{"tools":{}}"#));
}

#[tokio::test]
async fn a_server_that_names_an_older_version_is_offered_that() {
    let (client, ()) = meet(async |mut peer| {
        let offer = peer.expect("initialize").await;
        let data = json!({ "supported": ["2024-11-05", "2025-03-26"], "requested": "2025-11-25" });
        peer.refuse(&offer, -32602, "Unsupported protocol version", data).await;
        let result = json!({ "protocolVersion": "2025-03-26", "capabilities": {} });
        let offer = peer.serve("initialize", result).await;
        assert_eq!(offer["params"]["protocolVersion"], "2025-03-26");
        peer.expect("notifications/initialized").await;
    })
    .await;
    assert_eq!(client.unwrap().server().protocol_version, "2025-03-26");
}

#[tokio::test]
async fn a_refusal_of_any_code_leads_to_the_modern_era() {
    for code in [-32601, -32602, -32600, -32022, 0] {
        let (client, mut peer) = meet(async |mut peer| {
            let offer = peer.expect("initialize").await;
            let data = json!({ "supported": ["2026-07-28"] });
            peer.refuse(&offer, code, "no", data).await;
            peer.serve("server/discover", discovered(&["2026-07-28"])).await;
            peer
        })
        .await;
        let client = client.unwrap();
        assert_eq!(
            (client.server().era, client.server().name.as_deref()),
            (Era::Modern, Some("new"))
        );
        assert_eq!(client.server().instructions.as_deref(), Some("hello"));
        let (_, request) = tokio::join!(ask(&client, "a"), peer.serve("a", json!(1)));
        let meta = &request["params"]["_meta"];
        assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        assert_eq!(meta["io.modelcontextprotocol/clientCapabilities"], json!({}));
        assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "test");
    }
}

#[tokio::test]
async fn a_modern_request_keeps_the_callers_parameters_and_meta() {
    let (peer, (reader, writer)) = pair();
    let mut peer = peer;
    let (client, _) = tokio::join!(
        Client::connect_modern(reader, writer, info(), Limits::default()),
        peer.serve("server/discover", discovered(&["2027-01-01", "2026-07-28"])),
    );
    let client = client.unwrap();
    let params = raw(&json!({ "x": 1, "_meta": { "progressToken": 7 }, "y": [2] }));
    let (_, request) =
        tokio::join!(client.request("a", Some(&params), LONG), peer.serve("a", json!(1)));
    assert_eq!((&request["params"]["x"], &request["params"]["y"]), (&json!(1), &json!([2])));
    assert_eq!(request["params"]["_meta"]["progressToken"], 7);
    assert_eq!(request["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    let error = client.request("a", Some(&raw(&json!([1]))), LONG).await.unwrap_err();
    assert!(matches!(error, McpError::Parameters(_)), "{error}");
}

#[tokio::test]
async fn a_modern_server_gets_no_answers_to_requests_it_must_not_make() {
    let (mut peer, (reader, writer)) = pair();
    let (client, _) = tokio::join!(
        Client::connect_modern(reader, writer, info(), Limits::default()),
        peer.serve("server/discover", discovered(&["2026-07-28"])),
    );
    let client = client.unwrap();
    peer.send(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    let (answer, _) = tokio::join!(ask(&client, "a"), peer.serve("a", json!(1)));
    answer.unwrap();
}

#[tokio::test]
async fn a_server_that_refuses_and_ends_is_to_be_started_anew() {
    let (client, ()) = meet(async |mut peer| {
        let offer = peer.expect("initialize").await;
        peer.refuse(&offer, -32022, "Unsupported protocol version", Value::Null).await;
    })
    .await;
    let error = client.unwrap_err();
    assert!(matches!(error, McpError::Refused(_)), "{error}");
    assert_eq!(
        error.to_string(),
        "the server refused the handshake and ended: Unsupported protocol version (code -32022)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_has_nothing_to_do_with_eras_is_reported_as_it_came() {
    for answers_discover in [true, false] {
        let (client, _peer) = meet(async |mut peer| {
            let offer = peer.expect("initialize").await;
            peer.refuse(&offer, -32603, "API_KEY is not set", Value::Null).await;
            let probe = peer.expect("server/discover").await;
            if answers_discover {
                peer.refuse(&probe, -32601, "Method not found", Value::Null).await;
            }
            peer
        })
        .await;
        let error = client.unwrap_err().to_string();
        assert_eq!(error, "the server refused: API_KEY is not set (code -32603)");
    }
}

#[tokio::test]
async fn a_server_of_other_versions_only_says_which() {
    let (client, ()) = meet(async |mut peer| {
        let offer = peer.expect("initialize").await;
        peer.refuse(&offer, -32601, "no", Value::Null).await;
        peer.serve("server/discover", discovered(&["2027-01-01", "2028-01-01"])).await;
    })
    .await;
    let error = client.unwrap_err().to_string();
    assert_eq!(error, "the server speaks other protocol versions only: 2027-01-01, 2028-01-01");
}

#[tokio::test]
async fn a_handshake_without_a_version_is_a_broken_protocol() {
    let (client, ()) = meet(async |mut peer| {
        peer.serve("initialize", json!({ "capabilities": {} })).await;
    })
    .await;
    let error = client.unwrap_err();
    assert!(matches!(error, McpError::Protocol(_)), "{error}");
    assert!(error.to_string().contains("protocolVersion"), "{error}");
}
