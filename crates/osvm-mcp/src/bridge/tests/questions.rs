//! What a modern server asks of a legacy client.

use serde_json::{Value, json};

use super::legacy::begun;
use super::*;

fn call() -> Value {
    request(1, "tools/call", json!({ "name": "which" }))
}

fn required(requests: &Value) -> Value {
    json!({ "resultType": "input_required", "inputRequests": requests, "requestState": "s\u{e9}" })
}

fn form() -> Value {
    json!({ "method": "elicitation/create", "params": { "message": "which?" } })
}

#[test]
fn a_result_that_asks_becomes_questions_and_their_answers_a_retry() {
    let mut talk = begun();
    let passed = talk.client(&call()).at_server();
    let asks = required(&json!({ "one": form(), "two": form() }));
    let asked = talk.server(&answer(&passed, &asks)).client;
    assert_eq!(asked.len(), 2);
    assert_eq!((&asked[0]["method"], &asked[0]["params"]), (&form()["method"], &form()["params"]));
    talk.client(&answer(&asked[1], &json!({ "action": "decline" }))).nothing();
    let retried = talk.client(&answer(&asked[0], &json!({ "action": "accept" }))).at_server();
    assert_ne!(retried["id"], passed["id"]);
    let params = &retried["params"];
    assert_eq!((&params["name"], &params["requestState"]), (&json!("which"), &json!("s\u{e9}")));
    let answers = json!({ "one": { "action": "accept" }, "two": { "action": "decline" } });
    assert_eq!(params["inputResponses"], answers);
    assert_eq!(params["_meta"], passed["params"]["_meta"]);
    let done = talk.server(&answer(&retried, &json!({ "content": [] }))).at_client();
    assert_eq!((&done["id"], &done["result"]), (&json!(1), &json!({ "content": [] })));
    talk.client(&answer(&asked[0], &json!({}))).nothing();
}

#[test]
fn a_result_with_a_state_alone_is_retried_at_once_and_not_for_ever() {
    let mut talk = begun();
    let mut passed = talk.client(&call()).at_server();
    let asks = json!({ "resultType": "input_required", "requestState": "more" });
    for _ in 0..32 {
        passed = talk.server(&answer(&passed, &asks)).at_server();
        assert_eq!(passed["params"]["inputResponses"], Value::Null);
    }
    let told = talk.server(&answer(&passed, &asks)).at_client();
    assert_eq!((&told["id"], &told["error"]["code"]), (&json!(1), &json!(-32603)));
}

#[test]
fn an_address_is_given_the_name_that_legacy_clients_want() {
    let mut talk = begun();
    let passed = talk.client(&call()).at_server();
    let url = json!({ "method": "elicitation/create", "params": { "mode": "url", "url": "u" } });
    let asked = talk.server(&answer(&passed, &required(&json!({ "a": url })))).at_client();
    assert!(asked["params"]["elicitationId"].is_string(), "{asked}");
}

#[test]
fn a_question_that_the_client_can_not_be_asked_or_refuses_ends_the_call() {
    let mut talk = begun();
    let passed = talk.client(&call()).at_server();
    let roots = json!({ "a": form(), "b": { "method": "roots/list" } });
    let told = talk.server(&answer(&passed, &required(&roots))).at_client();
    assert!(told["error"]["message"].as_str().unwrap().contains("roots"), "{told}");

    let passed = talk.client(&call()).at_server();
    let asks = required(&json!({ "one": form(), "two": form() }));
    let asked = talk.server(&answer(&passed, &asks)).client;
    let told = talk.client(&refusal(&asked[0], -1, "not now")).client;
    assert!(told[0]["error"]["message"].as_str().unwrap().contains("not now"), "{told:?}");
    let cancelled = (json!("notifications/cancelled"), &asked[1]["id"]);
    assert_eq!((told[1]["method"].clone(), &told[1]["params"]["requestId"]), cancelled);
    talk.client(&answer(&asked[1], &json!({}))).nothing();
}

#[test]
fn a_call_that_waits_for_its_client_is_cancelled_with_its_questions() {
    let mut talk = begun();
    let passed = talk.client(&call()).at_server();
    let asked = talk.server(&answer(&passed, &required(&json!({ "a": form() })))).at_client();
    let cancel = notification("notifications/cancelled", json!({ "requestId": 1 }));
    assert_eq!(talk.client(&cancel).at_client()["params"]["requestId"], asked["id"]);
    let passed = talk.client(&call()).at_server();
    assert_eq!(talk.client(&cancel).at_server()["params"]["requestId"], passed["id"]);
}

#[test]
fn what_is_asked_is_bounded() {
    let mut talk = begun();
    let passed = talk.client(&call()).at_server();
    let many: serde_json::Map<_, _> = (0..100).map(|name| (name.to_string(), form())).collect();
    let told = talk.server(&answer(&passed, &required(&Value::Object(many)))).at_client();
    assert_eq!(told["error"]["code"], -32603);
    let large = request(1, "tools/call", json!({ "name": "x".repeat(17 << 20) }));
    let passed = talk.client(&large).at_server();
    let told = talk.server(&answer(&passed, &required(&json!({ "a": form() })))).at_client();
    assert_eq!(told["error"]["code"], -32603);
    // None of it is kept.
    let passed = talk.client(&call()).at_server();
    talk.server(&answer(&passed, &required(&json!({ "a": form() })))).at_client();
}
