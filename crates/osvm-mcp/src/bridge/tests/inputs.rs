//! What a legacy server asks of a modern client.

use serde_json::{Value, json};

use super::*;

/// A client that can be asked.
fn call(id: impl Into<Value>, params: Value) -> Value {
    let capabilities = json!({ "elicitation": {}, "roots": {} });
    modern_of(id, "tools/call", params, capabilities)
}

fn question(id: impl Into<Value>) -> Value {
    request(id, "elicitation/create", json!({ "message": "which?" }))
}

/// With what it was answered.
fn retry(id: impl Into<Value>, mut params: Value, told: &Value, responses: Value) -> Value {
    params["requestState"] = told["result"]["requestState"].clone();
    params["inputResponses"] = responses;
    call(id, params)
}

fn name() -> Value {
    json!({ "name": "which" })
}

#[test]
fn a_question_becomes_a_result_and_a_retry_its_answer() {
    let mut talk = met();
    let passed = talk.client(&call(1, name())).at_server();
    let told = talk.server(&question("q")).at_client();
    assert_eq!((&told["id"], &told["result"]["resultType"]), (&json!(1), &json!("input_required")));
    let asked = json!({ "method": "elicitation/create", "params": { "message": "which?" } });
    assert_eq!(told["result"]["inputRequests"], json!({ "input-1": asked }));
    // The id is free again, also while the server still has it open.
    let other = talk.client(&call(1, name())).at_server();
    assert_ne!(other["id"], passed["id"]);
    let done = talk.server(&answer(&other, &json!({ "content": [0] }))).at_client();
    assert_eq!((&done["id"], &done["result"]["content"]), (&json!(1), &json!([0])));

    let said = json!({ "action": "accept", "content": { "a": 1 } });
    let heard = talk.client(&retry("again", name(), &told, json!({ "input-1": said }))).at_server();
    assert_eq!((&heard["id"], &heard["result"]), (&json!("q"), &said));
    let done = talk.server(&answer(&passed, &json!({ "content": [1] }))).at_client();
    assert_eq!(done["id"], "again");
    assert_eq!(done["result"], json!({ "resultType": "complete", "content": [1] }));
}

#[test]
fn questions_that_are_left_are_asked_again() {
    let mut talk = met();
    let passed = talk.client(&call(1, name())).at_server();
    let told = talk.server(&question("q")).at_client();
    talk.server(&request("r", "roots/list", json!({}))).nothing();
    let heard = talk.client(&retry(2, name(), &told, json!({ "input-1": {} })));
    assert_eq!(heard.server[0]["id"], "q");
    let next = &heard.client[0];
    assert_eq!(next["id"], 2);
    assert_eq!(next["result"]["inputRequests"]["input-2"]["method"], "roots/list");
    assert_eq!(next["result"]["inputRequests"].as_object().unwrap().len(), 1);
    let again = talk.client(&retry(3, name(), next, json!({}))).at_client();
    assert_eq!(again["result"]["inputRequests"], next["result"]["inputRequests"]);
    let heard = talk.client(&retry(4, name(), &again, json!({ "input-2": { "roots": [] } })));
    assert_eq!(heard.at_server()["result"], json!({ "roots": [] }));
    assert_eq!(talk.server(&answer(&passed, &json!({}))).at_client()["id"], 4);
}

#[test]
fn a_state_is_of_use_once_for_its_own_request_and_client() {
    let mut talk = met_by(b"one");
    talk.client(&call(1, name())).at_server();
    let told = talk.server(&question("q")).at_client();
    let refused = |talk: &mut Talk, request: &Value| {
        let told = talk.client(request).at_client();
        assert_eq!((&told["id"], &told["error"]["code"]), (&json!(2), &json!(-32602)));
    };
    let said = json!({ "input-1": {} });
    refused(&mut talk, &retry(2, json!({ "name": "another" }), &told, said.clone()));
    let mut other = retry(2, name(), &told, said.clone());
    other["method"] = "prompts/get".into();
    refused(&mut talk, &other);
    let mut forged = told.clone();
    forged["result"]["requestState"] = "0.1.AAAA".into();
    refused(&mut talk, &retry(2, name(), &forged, said.clone()));
    refused(&mut talk, &retry(2, name(), &told, json!([])));
    refused(&mut met_by(b"another"), &retry(2, name(), &told, said.clone()));
    talk.client(&retry(2, name(), &told, said.clone())).at_server();
    let mut used = retry(3, name(), &told, said);
    used["id"] = 4.into();
    assert_eq!(talk.client(&used).at_client()["error"]["code"], -32602);
}

#[test]
fn what_can_not_be_asked_is_refused_to_the_server() {
    let mut talk = met();
    let refused = |talk: &mut Talk, request: &Value, code: i64| {
        let told = talk.server(request).at_server();
        assert_eq!((&told["id"], &told["error"]["code"]), (&request["id"], &json!(code)));
    };
    refused(&mut talk, &question(1), -32600);
    let list = modern_of(1, "tools/list", json!({}), json!({ "elicitation": {} }));
    talk.client(&list).at_server();
    refused(&mut talk, &question(1), -32600);
    talk.client(&call(2, name())).at_server();
    refused(&mut talk, &request(1, "sampling/createMessage", json!({})), -32601);
    refused(&mut talk, &request(1, "elicitation/create", json!({ "mode": "url" })), -32601);
    refused(&mut talk, &request(1, "other/thing", json!({})), -32601);
    assert_eq!(talk.server(&request(9, "ping", json!({}))).at_server()["result"], json!({}));
}

#[test]
fn a_question_is_asked_of_the_call_whose_token_it_carries_and_else_of_the_first() {
    let with = |token| json!({ "name": "a", "_meta": { "progressToken": token } });
    let mut talk = met();
    for (id, token) in [(1, "one"), (2, "two"), (3, "three")] {
        talk.client(&call(id, with(token))).at_server();
    }
    let meta = json!({ "message": "?", "_meta": { "progressToken": "two" } });
    assert_eq!(talk.server(&request("a", "elicitation/create", meta)).at_client()["id"], 2);
    assert_eq!(talk.server(&question("b")).at_client()["id"], 1);
    assert_eq!(talk.server(&question("c")).at_client()["id"], 3);
    talk.server(&question("d")).nothing();
}

#[test]
fn progress_is_told_by_the_token_of_the_request_that_waits() {
    let with = |token| json!({ "name": "a", "_meta": { "progressToken": token } });
    let progress = |token: &str| {
        notification("notifications/progress", json!({ "progressToken": token, "progress": 1 }))
    };
    let mut talk = met();
    talk.client(&call(1, with("one"))).at_server();
    assert_eq!(talk.server(&progress("one")).at_client(), progress("one"));
    assert_eq!(talk.server(&progress("other")).at_client(), progress("other"));
    let told = talk.server(&question("q")).at_client();
    talk.server(&progress("one")).nothing();
    let again = retry(2, with("two"), &told, json!({ "input-1": {} }));
    talk.client(&again).at_server();
    assert_eq!(talk.server(&progress("one")).at_client(), progress("two"));
}

#[test]
fn a_call_that_nobody_comes_back_for_is_given_up() {
    let mut talk = met();
    let passed = talk.client(&call(1, name())).at_server();
    assert_eq!(talk.bridge.expires(), None);
    let told = talk.server(&question("q")).at_client();
    assert_eq!(talk.bridge.expires(), Some(talk.now + PATIENCE));
    heard(talk.bridge.expire(talk.now)).nothing();
    let late = talk.now + PATIENCE;
    let over = heard(talk.bridge.expire(late)).server;
    assert_eq!(
        (&over[0]["method"], &over[0]["params"]["requestId"]),
        (&json!("notifications/cancelled"), &json!(1))
    );
    assert_eq!((&over[1]["id"], &over[1]["error"]["code"]), (&json!("q"), &json!(-32603)));
    assert_eq!(talk.bridge.expires(), None);
    talk.server(&answer(&passed, &json!({}))).nothing();
    let told = talk.client(&retry(2, name(), &told, json!({}))).at_client();
    assert_eq!(told["error"]["code"], -32602);
}

#[test]
fn a_call_is_cancelled_by_the_id_that_its_client_uses_now() {
    let mut talk = met();
    let passed = talk.client(&call(1, name())).at_server();
    let told = talk.server(&question("q")).at_client();
    talk.client(&retry(2, name(), &told, json!({ "input-1": {} }))).at_server();
    let cancel = |id: i64| notification("notifications/cancelled", json!({ "requestId": id }));
    talk.client(&cancel(1)).nothing();
    assert_eq!(talk.client(&cancel(2)).at_server()["params"]["requestId"], passed["id"]);
    talk.server(&answer(&passed, &json!({}))).nothing();
}

#[test]
fn a_server_that_does_not_wait_for_the_answer_is_heard_with_the_retry() {
    let mut talk = met();
    let passed = talk.client(&call(1, name())).at_server();
    let told = talk.server(&question("q")).at_client();
    talk.server(&answer(&passed, &json!({ "content": [] }))).nothing();
    let heard = talk.client(&retry(2, name(), &told, json!({ "input-1": {} })));
    let done = &heard.client[0];
    assert_eq!((&done["id"], &done["result"]["resultType"]), (&json!(2), &json!("complete")));
    // It may wait for it yet.
    assert_eq!(heard.server, [json!({ "jsonrpc": "2.0", "id": "q", "result": {} })]);
}

#[test]
fn a_question_that_was_another_calls_is_answered_though_this_one_is_over() {
    let mut talk = met();
    let first = talk.client(&call(1, name())).at_server();
    let second = talk.client(&call(2, name())).at_server();
    // Of the second, and shown with the first.
    let told = talk.server(&question("q")).at_client();
    assert_eq!(told["id"], 1);
    talk.server(&answer(&first, &json!({ "content": [] }))).nothing();
    let heard = talk.client(&retry(3, name(), &told, json!({ "input-1": {} })));
    assert_eq!((&heard.client[0]["id"], &heard.server[0]["id"]), (&json!(3), &json!("q")));
    assert_eq!(talk.server(&answer(&second, &json!({}))).at_client()["id"], 2);
}

#[test]
fn a_server_may_take_a_question_back() {
    let mut talk = met();
    let passed = talk.client(&call(1, name())).at_server();
    let told = talk.server(&question("q")).at_client();
    talk.server(&notification("notifications/cancelled", json!({ "requestId": "q" }))).nothing();
    talk.client(&retry(2, name(), &told, json!({ "input-1": {} }))).nothing();
    assert_eq!(talk.server(&answer(&passed, &json!({}))).at_client()["id"], 2);
}

#[test]
fn a_retry_hears_that_the_server_was_lost() {
    let mut talk = met();
    talk.client(&call(1, name())).at_server();
    let told = talk.server(&question("q")).at_client();
    heard(talk.bridge.lost("gone")).nothing();
    let done = talk.client(&retry(2, name(), &told, json!({ "input-1": {} }))).at_client();
    assert_eq!((&done["id"], &done["error"]["message"]), (&json!(2), &json!("gone")));
}

#[test]
fn what_is_kept_for_a_retry_is_bounded() {
    let mut talk = met();
    let passed = talk.client(&call(1, name())).at_server();
    let told = talk.server(&question("q")).at_client();
    (0..15).for_each(|id| talk.server(&question(id)).nothing());
    assert_eq!(talk.server(&question("more")).at_server()["error"]["code"], -32603);
    let large = "x".repeat(5 << 20);
    talk.server(&answer(&passed, &json!({ "content": large }))).nothing();
    let heard = talk.client(&retry(2, name(), &told, json!({})));
    assert_eq!(heard.client[0]["error"]["code"], -32603);
    // What the client did not say is not waited for.
    assert_eq!(heard.server.len(), 16);
    talk.client(&call(3, name())).at_server();
    let long = request("long", "elicitation/create", json!({ "message": large }));
    assert_eq!(talk.server(&long).at_server()["error"]["code"], -32603);
    assert_eq!(talk.server(&question("short")).at_client()["id"], 3);
}

/// A client that can have addresses opened, or not.
fn open(id: u64, params: Value, elicitation: &Value) -> Value {
    modern_of(id, "tools/call", params, json!({ "elicitation": elicitation }))
}

/// A server's wish that the user opens something first.
fn wants_opened(call: &Value) -> Value {
    let asks = json!({ "mode": "url", "elicitationId": "e", "url": "https://a.example/", "message": "sign in" });
    let mut refused = refusal(call, -32042, "not signed in");
    refused["error"]["data"] = json!({ "elicitations": [asks], "more": 1 });
    refused
}

/// The call again, of a client that was told to have an address opened.
fn once_opened(id: u64, told: &Value, action: &str) -> Value {
    let mut params = name();
    params["requestState"] = told["result"]["requestState"].clone();
    params["inputResponses"] = json!({ "address-1": { "action": action } });
    open(id, params, &json!({ "url": {} }))
}

#[test]
fn an_address_that_is_to_be_opened_is_asked_for_and_the_call_made_anew() {
    let mut talk = met();
    let passed = talk.client(&open(1, name(), &json!({ "url": {} }))).at_server();
    let told = talk.server(&wants_opened(&passed)).at_client();
    assert_eq!((&told["id"], &told["result"]["resultType"]), (&json!(1), &json!("input_required")));
    let params = json!({ "mode": "url", "url": "https://a.example/", "message": "sign in" });
    let asked = json!({ "method": "elicitation/create", "params": params });
    assert_eq!(told["result"]["inputRequests"], json!({ "address-1": asked }));
    let anew = talk.client(&once_opened(3, &told, "accept")).at_server();
    assert_eq!((&anew["id"], &anew["method"]), (&json!(3), &json!("tools/call")));
    assert_eq!(anew["params"], passed["params"], "as it was made first");
    let done = talk.server(&answer(&anew, &json!({ "content": [] }))).at_client();
    assert_eq!((&done["id"], &done["result"]["resultType"]), (&json!(3), &json!("complete")));
    // It is so once, and of another call it is no state.
    let used = talk.client(&once_opened(4, &told, "accept")).at_client();
    assert!(used["error"]["message"].as_str().unwrap().contains("has been used"), "{used}");
    let mut other = once_opened(5, &told, "accept");
    other["params"]["name"] = "other".into();
    assert_eq!(talk.client(&other).at_client()["error"]["code"], -32602);
}

#[test]
fn an_address_that_was_not_opened_ends_the_call() {
    let mut talk = met();
    let passed = talk.client(&open(1, name(), &json!({ "url": {} }))).at_server();
    let told = talk.server(&wants_opened(&passed)).at_client();
    for (id, action, why) in [(2, "decline", "did not"), (3, "accept", "has been used")] {
        let no = talk.client(&once_opened(id, &told, action)).at_client();
        assert!(no["error"]["message"].as_str().unwrap().contains(why), "{no}");
    }
}

#[test]
fn who_can_open_no_address_is_told_what_to_state_and_what_was_to_be_opened() {
    let mut talk = met();
    let passed = talk.client(&open(1, name(), &json!({ "form": {} }))).at_server();
    let error = talk.server(&wants_opened(&passed)).at_client()["error"].clone();
    assert_eq!((&error["code"], &error["message"]), (&json!(-32021), &json!("not signed in")));
    assert_eq!(error["data"]["requiredCapabilities"], json!({ "elicitation": { "url": {} } }));
    assert_eq!(error["data"]["elicitations"][0]["url"], "https://a.example/");
}

#[test]
fn what_fails_by_the_same_code_and_asks_for_nothing_passes_as_it_is() {
    let mut talk = met();
    let form = json!({ "elicitations": [{ "mode": "form", "message": "m" }] });
    for data in [Value::Null, json!({ "price": 1 }), json!({ "elicitations": [] }), form] {
        let passed = talk.client(&open(1, name(), &json!({ "url": {} }))).at_server();
        let mut refused = refusal(&passed, -32042, "pay");
        refused["error"]["data"] = data;
        assert_eq!(talk.server(&refused).at_client()["error"], refused["error"]);
    }
}
