//! A legacy client of a modern server.

use serde_json::{Value, json};

use super::*;

pub(super) fn discovered() -> Value {
    json!({
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {
            "tools": { "listChanged": true },
            "resources": { "subscribe": true },
            "logging": {},
        },
        "instructions": "be quick",
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": { "io.modelcontextprotocol/serverInfo": { "name": "new", "version": "2" } },
    })
}

fn initialize(version: &str) -> Value {
    let capabilities = json!({ "elicitation": { "form": {}, "url": {} } });
    let info = json!({ "name": "old", "version": "1" });
    let params =
        json!({ "protocolVersion": version, "capabilities": capabilities, "clientInfo": info });
    request(0, "initialize", params)
}

/// A client that has begun, and hears of no lists.
pub(super) fn begun() -> Talk {
    let mut talk = Talk::new(Era::Legacy, Era::Modern);
    talk.asks(&initialize("2025-11-25"), &discovered());
    talk
}

fn says(request: &Value) -> Value {
    let meta = &request["params"]["_meta"];
    assert_eq!(meta["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
    assert_eq!(meta["io.modelcontextprotocol/clientInfo"]["name"], "old");
    assert_eq!(
        meta["io.modelcontextprotocol/clientCapabilities"]["elicitation"]["form"],
        json!({})
    );
    meta.clone()
}

#[test]
fn the_handshake_is_answered_out_of_discovery() {
    for (asked, agreed) in [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ] {
        let mut talk = Talk::new(Era::Legacy, Era::Modern);
        let discover = talk.client(&initialize(asked)).at_server();
        assert_eq!(discover["method"], "server/discover");
        says(&discover);
        let told = talk.server(&answer(&discover, &discovered())).at_client();
        let expected = json!({
            "protocolVersion": agreed,
            "capabilities": discovered()["capabilities"],
            "serverInfo": { "name": "new", "version": "2" },
            "instructions": "be quick",
        });
        assert_eq!((&told["id"], &told["result"]), (&json!(0), &expected));
    }
}

#[test]
fn a_server_that_is_none_of_this_era_refuses_the_handshake() {
    let mut talk = Talk::new(Era::Legacy, Era::Modern);
    let discover = talk.client(&initialize("2025-11-25")).at_server();
    let told = talk.server(&refusal(&discover, -32603, "no disk")).at_client();
    assert!(told["error"]["message"].as_str().unwrap().contains("no disk"), "{told}");
    let other = json!({ "supportedVersions": ["2027-01-01"] });
    let told = talk.asks(&initialize("2025-11-25"), &other);
    assert!(told["error"]["message"].as_str().unwrap().contains("2027-01-01"), "{told}");
}

#[test]
fn nothing_but_a_ping_comes_before_the_handshake() {
    let mut talk = Talk::new(Era::Legacy, Era::Modern);
    assert_eq!(talk.client(&request(1, "ping", json!({}))).at_client()["result"], json!({}));
    let told = talk.client(&request(1, "tools/list", json!({}))).at_client();
    assert_eq!(told["error"]["code"], -32600);
}

#[test]
fn each_request_says_what_the_handshake_has_settled() {
    let mut talk = begun();
    let bare = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" });
    says(&talk.client(&bare).at_server());
    says(&talk.client(&request(2, "tools/list", json!({}))).at_server());
    let passed = talk.client(&request(
        3,
        "tools/call",
        json!({ "name": "a", "_meta": { "progressToken": 7 } }),
    ));
    let passed = passed.at_server();
    assert_eq!(
        (&says(&passed)["progressToken"], &passed["params"]["name"]),
        (&json!(7), &json!("a"))
    );
    let told = talk.client(&request(4, "tools/list", json!([]))).at_client();
    assert_eq!(told["error"]["code"], -32602);
}

#[test]
fn a_level_is_kept_and_said_with_each_request() {
    let mut talk = begun();
    let level = |level: &str| request(1, "logging/setLevel", json!({ "level": level }));
    assert_eq!(talk.client(&level("loud")).at_client()["error"]["code"], -32602);
    assert_eq!(talk.client(&level("info")).at_client()["result"], json!({}));
    let meta = says(&talk.client(&request(2, "tools/list", json!({}))).at_server());
    assert_eq!(meta["io.modelcontextprotocol/logLevel"], "info");
}

#[test]
fn what_is_gone_is_refused() {
    let mut talk = begun();
    for gone in ["tasks/list", "tasks/result", "subscriptions/listen", "server/discover"] {
        let told = talk.client(&request(1, gone, json!({}))).at_client();
        assert_eq!(told["error"]["code"], -32601, "{gone}");
    }
    talk.client(&notification("notifications/roots/list_changed", json!({}))).nothing();
    // A modern server asks nothing, and must be given no answer.
    talk.server(&request(1, "ping", json!({}))).nothing();
}

#[test]
fn lists_that_change_are_listened_for_from_the_handshake_on() {
    let mut talk = begun();
    let listen = talk.client(&notification("notifications/initialized", json!({}))).at_server();
    assert_eq!(listen["method"], "subscriptions/listen");
    assert_eq!(listen["params"]["notifications"], json!({ "toolsListChanged": true }));
    says(&listen);
    let granted = json!({ "_meta": { SUBSCRIPTION: listen["id"] }, "notifications": {} });
    talk.server(&notification("notifications/subscriptions/acknowledged", granted)).nothing();
    let meta = json!({ "_meta": { SUBSCRIPTION: listen["id"] } });
    let changed = notification("notifications/tools/list_changed", meta);
    assert_eq!(talk.server(&changed).at_client(), changed);
    // A server that ends it is asked again with the client's next request, and not before.
    talk.server(&answer(&listen, &json!({ "resultType": "complete" }))).nothing();
    let heard = talk.client(&request(1, "tools/list", json!({})));
    assert_eq!(heard.server[0]["method"], "subscriptions/listen");
    assert_eq!(heard.server[1]["method"], "tools/list");
    assert_eq!(talk.client(&request(2, "tools/list", json!({}))).server.len(), 1);
}

#[test]
fn a_resource_is_subscribed_to_once_the_server_says_so() {
    let mut talk = begun();
    let uri = |uri: &str| json!({ "uri": uri });
    let listen = talk.client(&request(1, "resources/subscribe", uri("file:///a"))).at_server();
    assert_eq!(listen["params"]["notifications"]["resourceSubscriptions"], json!(["file:///a"]));
    let granted = json!({
        "_meta": { SUBSCRIPTION: listen["id"] },
        "notifications": { "resourceSubscriptions": ["file:///a"] },
    });
    let granted = notification("notifications/subscriptions/acknowledged", granted);
    assert_eq!(talk.server(&granted).at_client(), answer(&json!({ "id": 1 }), &json!({})));
    let ended = talk.client(&request(2, "resources/unsubscribe", uri("file:///a")));
    assert_eq!(ended.client, [answer(&json!({ "id": 2 }), &json!({}))]);
    assert_eq!(ended.server[0]["params"]["requestId"], listen["id"]);

    let listen = talk.client(&request(3, "resources/subscribe", uri("file:///b"))).at_server();
    let refused = json!({ "_meta": { SUBSCRIPTION: listen["id"] }, "notifications": {} });
    let refused = notification("notifications/subscriptions/acknowledged", refused);
    assert_eq!(talk.server(&refused).at_client()["error"]["code"], -32602);
    let listen = talk.client(&request(4, "resources/subscribe", uri("file:///c"))).at_server();
    let told = talk.server(&refusal(&listen, -32601, "no such method")).at_client();
    assert_eq!((&told["id"], &told["error"]["message"]), (&json!(4), &json!("no such method")));
    // One that is wanted no more before the server has said so is answered, too.
    talk.client(&request(5, "resources/subscribe", uri("file:///d"))).at_server();
    let ended = talk.client(&request(6, "resources/unsubscribe", uri("file:///d"))).client;
    assert_eq!((&ended[0]["id"], &ended[1]["id"]), (&json!(5), &json!(6)));
}

#[test]
fn a_lost_server_is_told_to_all_that_wait_and_subscriptions_are_made_anew() {
    let mut talk = begun();
    talk.client(&notification("notifications/initialized", json!({}))).at_server();
    talk.client(&request(1, "tools/call", json!({}))).at_server();
    talk.client(&request(2, "resources/subscribe", json!({ "uri": "file:///a" }))).at_server();
    let told = heard(talk.bridge.lost("gone")).client;
    let ids: Vec<_> = told.iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids, [2, 1]);
    let heard = talk.client(&request(1, "tools/list", json!({})));
    assert_eq!(heard.server[0]["params"]["notifications"], json!({ "toolsListChanged": true }));
    assert_eq!(heard.server.len(), 2);
}

#[test]
fn a_batch_is_taken_message_by_message() {
    let mut talk = begun();
    let batch = json!([request(1, "ping", json!({})), request(2, "tools/list", json!({})), 7]);
    let heard = talk.client(&batch);
    assert_eq!((heard.client.len(), heard.server.len()), (2, 1));
    assert_eq!(heard.client[1]["error"]["code"], -32700);
}

#[test]
fn what_is_remembered_of_a_client_is_bounded() {
    let mut talk = begun();
    let refused = (0..3000)
        .filter(|id| talk.client(&request(*id, "tools/call", json!({}))).server.is_empty());
    assert_eq!(refused.count(), 3000 - 1024);
    let mut talk = begun();
    let refused = (0..300).filter(|id| {
        let uri = json!({ "uri": format!("file:///{id}") });
        talk.client(&request(*id, "resources/subscribe", uri)).server.is_empty()
    });
    assert_eq!(refused.count(), 300 - 256);
    let mut large = initialize("2025-11-25");
    large["params"]["clientInfo"]["name"] = "x".repeat(65 << 10).into();
    let told = Talk::new(Era::Legacy, Era::Modern).client(&large).at_client();
    assert_eq!(told["error"]["code"], -32602);
}
