//! A modern client of a legacy server.

use serde_json::{Value, json};

use super::super::messages::key;
use super::*;

/// A request as a legacy server hears it.
fn said(request: &Value) -> Value {
    let mut said = request.clone();
    let meta = said["params"]["_meta"].as_object_mut().unwrap();
    meta.retain(|name, _| !name.starts_with("io.modelcontextprotocol/"));
    said
}

#[test]
fn the_handshake_is_made_with_what_the_first_request_says_and_what_waits_for_it_follows() {
    let mut talk = Talk::new(Era::Modern, Era::Legacy);
    let first = modern_of(1, "tools/list", json!({}), json!({ "sampling": {} }));
    let hello = talk.client(&first).at_server();
    assert_eq!(hello["method"], "initialize");
    assert_eq!(hello["params"]["protocolVersion"], "2025-06-18");
    assert_eq!(hello["params"]["capabilities"], json!({ "sampling": {} }));
    assert_eq!(hello["params"]["clientInfo"]["name"], "new");
    talk.client(&modern(2, "tools/list", json!({}))).nothing();
    let after = talk.server(&answer(&hello, &initialized()));
    let methods: Vec<_> = after.server.iter().map(|line| line["method"].clone()).collect();
    assert_eq!(methods, ["notifications/initialized", "tools/list", "tools/list"]);
    assert_eq!(after.server[1], said(&first));
}

#[test]
fn a_refused_handshake_is_told_to_all_that_wait_and_tried_again() {
    let mut talk = Talk::new(Era::Modern, Era::Legacy);
    let hello = talk.client(&modern(1, "tools/list", json!({}))).at_server();
    let failed = talk.server(&refusal(&hello, -32603, "no disk")).at_client();
    assert_eq!(failed["id"], 1);
    assert!(failed["error"]["message"].as_str().unwrap().contains("no disk"));
    assert_eq!(talk.client(&modern(1, "a", json!({}))).at_server()["method"], "initialize");
}

#[test]
fn discovery_is_answered_out_of_the_handshake() {
    let told = met().client(&modern(1, "server/discover", json!({}))).at_client();
    let expected = json!({
        "resultType": "complete",
        "supportedVersions": ["2026-07-28"],
        "capabilities": {
            "tools": { "listChanged": true },
            "resources": { "subscribe": true },
            "logging": {},
        },
        "instructions": "be kind",
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": { "io.modelcontextprotocol/serverInfo": { "name": "old", "version": "0" } },
    });
    assert_eq!(told["result"], expected);
}

#[test]
fn results_say_that_they_are_complete_and_lists_how_long_they_hold() {
    let mut talk = met();
    let called = talk.asks(&modern(1, "tools/call", json!({})), &json!({ "content": [] }));
    assert_eq!(called["result"], json!({ "resultType": "complete", "content": [] }));
    let listed = talk.asks(&modern(1, "tools/list", json!({})), &json!({ "ttlMs": 5 }));
    let hints = json!({ "resultType": "complete", "cacheScope": "private", "ttlMs": 5 });
    assert_eq!(listed["result"], hints);
}

#[test]
fn errors_pass_but_for_codes_that_the_modern_era_has_not() {
    let mut talk = met();
    let passes = [
        ("resources/read", -32002, -32602),
        ("tools/call", -32002, -32002),
        ("tools/call", -32042, -32042),
    ];
    for (method, code, told) in passes {
        let passed = talk.client(&modern(1, method, json!({}))).at_server();
        let heard = talk.server(&refusal(&passed, code, "no such")).at_client();
        assert_eq!(heard["error"], json!({ "code": told, "message": "no such" }));
    }
}

#[test]
fn requests_that_do_not_say_what_they_must_are_refused_as_specified() {
    let mut talk = met();
    let code = |talk: &mut Talk, request: &Value| {
        let told = talk.client(request).at_client();
        assert_eq!(told["id"], request["id"]);
        told["error"].clone()
    };
    assert_eq!(code(&mut talk, &request(1, "tools/list", json!({})))["code"], -32602);
    let mut without = modern(1, "tools/list", json!({}));
    without["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"].take();
    assert_eq!(code(&mut talk, &without)["code"], -32602);
    let mut other = modern(1, "tools/list", json!({}));
    other["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = "2099-01-01".into();
    let data = json!({ "supported": ["2026-07-28"], "requested": "2099-01-01" });
    let error = code(&mut talk, &other);
    assert_eq!((&error["code"], &error["data"]), (&json!(-32022), &data));
    let level = json!({ "_meta": { "io.modelcontextprotocol/logLevel": "loud" } });
    assert_eq!(code(&mut talk, &modern(1, "tools/list", level))["code"], -32602);
    for gone in ["ping", "logging/setLevel", "resources/subscribe", "tasks/list"] {
        assert_eq!(code(&mut talk, &modern(1, gone, json!({})))["code"], -32601, "{gone}");
    }
    let initialize = request(1, "initialize", json!({ "protocolVersion": "2025-11-25" }));
    let error = code(&mut talk, &initialize);
    assert_eq!(
        (&error["code"], &error["data"]["requested"]),
        (&json!(-32022), &json!("2025-11-25"))
    );
    let listen = modern(1, "subscriptions/listen", json!({}));
    assert_eq!(code(&mut talk, &listen)["code"], -32602);
}

#[test]
fn what_is_no_message_is_answered_and_does_not_reach_the_server() {
    let mut talk = met();
    let told = heard(talk.bridge.of_client(b"{\"id\":1", talk.now)).at_client();
    assert_eq!((&told["id"], &told["error"]["code"]), (&Value::Null, &json!(-32700)));
    heard(talk.bridge.of_client(b" \r", talk.now)).nothing();
    heard(talk.bridge.of_server(b"listening on stdio", talk.now)).nothing();
    talk.client(&notification("notifications/roots/list_changed", json!({}))).nothing();
}

#[test]
fn an_id_that_is_open_is_refused() {
    let mut talk = met();
    talk.client(&modern("a", "tools/call", json!({}))).at_server();
    let again = modern("a", "tools/call", json!({})).to_string().replace(r#""a""#, r#""\u0061""#);
    let told = heard(talk.bridge.of_client(again.as_bytes(), talk.now)).at_client();
    assert_eq!(told["error"]["code"], -32600);
}

#[test]
fn answers_that_nobody_waits_for_are_dropped() {
    let mut talk = met();
    let passed = talk.client(&modern(1, "tools/call", json!({}))).at_server();
    talk.server(&answer(&passed, &json!({}))).at_client();
    talk.server(&answer(&passed, &json!({}))).nothing();
    talk.server(&answer(&json!({ "id": "never" }), &json!({}))).nothing();
}

#[test]
fn the_level_of_a_request_is_set_when_it_changes_and_unasked_messages_are_held_back() {
    let mut talk = met();
    let message = notification("notifications/message", json!({ "level": "error", "data": 1 }));
    talk.server(&message).nothing();
    let call = |id, level| {
        modern(id, "tools/call", json!({ "_meta": { "io.modelcontextprotocol/logLevel": level } }))
    };
    let steps = talk.client(&call(1, "info"));
    assert_eq!(steps.server[0]["method"], "logging/setLevel");
    assert_eq!(steps.server[0]["params"], json!({ "level": "info" }));
    assert_eq!(steps.server[1], said(&call(1, "info")));
    talk.server(&answer(&steps.server[0], &json!({}))).nothing();
    assert_eq!(talk.server(&message).at_client(), message);
    assert_eq!(talk.client(&call(2, "info")).at_server(), said(&call(2, "info")));
    assert_eq!(talk.client(&call(3, "debug")).server.len(), 2);
}

#[test]
fn a_subscription_is_what_the_server_can_do_of_it() {
    let mut talk = met();
    let wanted = json!({
        "toolsListChanged": true,
        "promptsListChanged": true,
        "resourceSubscriptions": ["file:///a", "file:///b"],
    });
    let opened =
        talk.client(&modern(5, "subscriptions/listen", json!({ "notifications": wanted })));
    let granted = json!({
        "_meta": { SUBSCRIPTION: 5 },
        "notifications": {
            "toolsListChanged": true,
            "resourceSubscriptions": ["file:///a", "file:///b"],
        },
    });
    let told = notification("notifications/subscriptions/acknowledged", granted);
    assert_eq!(opened.client, [told]);
    let uris: Vec<_> = opened.server.iter().map(|line| line["params"]["uri"].clone()).collect();
    assert_eq!(uris, ["file:///a", "file:///b"]);
    talk.server(&answer(&opened.server[0], &json!({}))).nothing();
    // Another that wants one of them needs no more of the server.
    let wanted = json!({ "resourceSubscriptions": ["file:///a"] });
    let other = modern("x", "subscriptions/listen", json!({ "notifications": wanted }));
    talk.client(&other).at_client();

    let changed = json!({ "jsonrpc": "2.0", "method": "notifications/tools/list_changed" });
    let told = talk.server(&changed).at_client();
    assert_eq!(told["params"], json!({ "_meta": { SUBSCRIPTION: 5 } }));
    let changed = notification("notifications/resources/updated", json!({ "uri": "file:///a" }));
    let told = talk.server(&changed);
    let ids: Vec<_> =
        told.client.iter().map(|line| &line["params"]["_meta"][SUBSCRIPTION]).collect();
    assert_eq!(ids, [&json!("x"), &json!(5)]);
    talk.server(&notification("notifications/prompts/list_changed", json!({}))).nothing();
    let large = json!({ "x": "x".repeat(65 << 10) });
    talk.server(&notification("notifications/tools/list_changed", large)).nothing();

    let cancel = notification("notifications/cancelled", json!({ "requestId": 5 }));
    let last = talk.client(&cancel).at_server();
    let expected = (json!("resources/unsubscribe"), json!({ "uri": "file:///b" }));
    assert_eq!((last["method"].clone(), last["params"].clone()), expected);
}

#[test]
fn a_lost_server_is_told_to_all_that_wait_and_levels_are_set_anew() {
    let mut talk = met();
    let level = json!({ "_meta": { "io.modelcontextprotocol/logLevel": "info" } });
    talk.client(&modern(1, "tools/call", level.clone()));
    let listen = json!({ "notifications": { "toolsListChanged": true } });
    talk.client(&modern(2, "subscriptions/listen", listen)).at_client();
    let told = heard(talk.bridge.lost("it is gone"));
    let ids: Vec<_> = told.client.iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids, [2, 1]);
    assert!(told.client.iter().all(|line| line["error"]["message"] == "it is gone"));
    heard(talk.bridge.lost("it is gone")).nothing();
    // Another has been told of the handshake, and of nothing else.
    assert_eq!(talk.client(&modern(1, "tools/call", level)).server.len(), 2);
}

#[test]
fn a_server_lost_in_the_handshake_is_met_anew() {
    let mut talk = Talk::new(Era::Modern, Era::Legacy);
    talk.client(&modern(1, "tools/list", json!({}))).at_server();
    assert_eq!(heard(talk.bridge.lost("gone")).at_client()["id"], 1);
    assert_eq!(talk.client(&modern(2, "a", json!({}))).at_server()["method"], "initialize");
}

#[test]
fn what_is_remembered_of_a_client_is_bounded() {
    let mut talk = met();
    let refused = (0..5000).filter(|id| {
        let heard = talk.client(&modern(*id, "tools/call", json!({})));
        heard.client.first().is_some_and(|told| told["error"]["code"] == -32603)
    });
    assert_eq!(refused.count(), 5000 - 1024);
    let mut talk = Talk::new(Era::Modern, Era::Legacy);
    let waits = (0..400).filter(|id| talk.client(&modern(*id, "a", json!({}))).client.is_empty());
    assert_eq!(waits.count(), 256);
    let mut talk = met();
    let long = "x".repeat(2000);
    let told = talk.client(&modern(long, "a", json!({}))).at_client();
    assert_eq!(told["error"]["code"], -32600);
    let uris: Vec<_> = (0..2000).collect();
    let filter = json!({ "notifications": { "resourceSubscriptions": uris } });
    talk.client(&modern(1, "subscriptions/listen", filter)).at_client();
    let batch: Vec<_> = (0..300).map(|id| modern(id, "a", json!({}))).collect();
    assert_eq!(talk.client(&Value::Array(batch)).at_client()["error"]["code"], -32600);
}

#[test]
fn ids_are_the_same_however_they_are_spelled() {
    let key = |id: &str| key(&serde_json::value::RawValue::from_string(id.to_owned()).unwrap());
    assert_eq!(key(r#""\u0061""#), key(r#""a""#));
    assert_ne!(key("1"), key(r#""1""#));
}
