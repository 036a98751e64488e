//! Modern clients and their servers, line by line.

use std::num::NonZeroU32;
use std::sync::Arc;

use osvm_spec::{ToolLimits, ToolPolicy};
use serde_json::Value;

use super::super::{CallRates, Guard, OnBehalf, Passage, Rules};
use super::*;

/// A guard whose tool `rm` is to be confirmed, and may be called so often.
fn guard(limits: ToolLimits, token: Option<&str>) -> Guard {
    let policy = ToolPolicy { limits: [("rm".to_owned(), limits)].into(), ..ToolPolicy::default() };
    let rates = CallRates::default();
    rates.hold(&policy);
    let token = token.map(str::to_owned);
    let on_behalf = Some(OnBehalf { token, ..OnBehalf::default() });
    let rates = Some(Arc::new(rates));
    Guard::new(Rules { server: "s".to_owned(), policy, on_behalf, rates, ..Rules::default() })
}

const CONFIRM: ToolLimits = ToolLimits {
    denied: false,
    confirm: true,
    max_result_bytes: None,
    timeout: None,
    calls_per_minute: NonZeroU32::new(2),
};

fn call(id: u64, arguments: &str, more: &Value) -> Vec<u8> {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": { "elicitation": { "form": {} } },
    });
    let mut params = json!({ "name": "rm", "_meta": meta });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let text = params.to_string();
    let params = format!(r#"{{"arguments":{arguments},{}"#, &text[1..]);
    let head = format!(r#""jsonrpc":"2.0","id":{id},"method":"tools/call""#);
    format!("{{{head},\"params\":{params}}}\n").into_bytes()
}

fn answer(id: u64, result: &Value) -> Vec<u8> {
    format!("{}\n", json!({ "jsonrpc": "2.0", "id": id, "result": result })).into_bytes()
}

fn read(line: &[u8]) -> Value {
    serde_json::from_slice(line).unwrap_or_default()
}

const ARGUMENTS: &str = r#"{"a" : 1.0}"#;

/// The state of the question that a call is answered with.
fn asks(guard: &mut Guard, id: u64, arguments: &str) -> String {
    let line = call(id, arguments, &json!({}));
    let passage = guard.of_client(&line, Instant::now());
    assert!(passage.to_server.is_empty());
    let result = read(&passage.to_client)["result"].clone();
    assert_eq!(result["resultType"], "input_required", "{result}");
    let question = &result["inputRequests"][NAME];
    assert_eq!(
        (&question["method"], &question["params"]["mode"]),
        (&json!("elicitation/create"), &json!("form"))
    );
    let told = format!("osvm: may tool rm of server s be called with {arguments}?");
    assert_eq!(question["params"]["message"], told);
    result["requestState"].as_str().unwrap().to_owned()
}

fn word(state: &str, action: &str) -> Value {
    json!({ "requestState": state, "inputResponses": { NAME: { "action": action } } })
}

fn why(passage: &Passage<'_>) -> String {
    assert!(passage.to_server.is_empty(), "{passage:?}");
    read(&passage.to_client)["error"]["message"].as_str().unwrap().to_owned()
}

fn outcomes(guard: &mut Guard) -> Vec<Outcome> {
    guard.take_ended().into_iter().map(|ended| ended.outcome).collect()
}

#[test]
fn an_answer_that_asks_back_is_no_result_of_the_call() {
    let mut guard = guard(ToolLimits::default(), None);
    let asks = json!({ "resultType": "input_required", "requestState": "s" });
    guard.of_client(&call(1, ARGUMENTS, &json!({})), Instant::now());
    guard.of_server(&answer(1, &asks), Instant::now());
    let retry = json!({ "requestState": "s", "inputResponses": {} });
    guard.of_client(&call(2, ARGUMENTS, &retry), Instant::now());
    let told = json!({ "resultType": "complete", "content": [] });
    guard.of_server(&answer(2, &told), Instant::now());
    assert_eq!(outcomes(&mut guard), [Outcome::InputRequired, Outcome::Ok]);
}

#[test]
fn a_call_comes_again_with_its_users_yes_and_the_server_sees_a_plain_one() {
    let mut guard = guard(CONFIRM, None);
    let state = asks(&mut guard, 1, ARGUMENTS);
    assert_eq!(outcomes(&mut guard), []);
    let line = call(2, ARGUMENTS, &word(&state, "accept"));
    let passage = guard.of_client(&line, Instant::now());
    assert!(passage.to_client.is_empty());
    assert_eq!(passage.to_server, call(2, ARGUMENTS, &json!({})));
    guard.of_server(&answer(2, &json!({ "content": [] })), Instant::now());
    assert_eq!(outcomes(&mut guard), [Outcome::Ok]);
    let again = call(3, ARGUMENTS, &word(&state, "accept"));
    assert!(why(&guard.of_client(&again, Instant::now())).contains("was used"));
}

#[test]
fn what_is_no_yes_is_a_refusal() {
    for action in ["decline", "cancel", "ACCEPT"] {
        let mut guard = guard(CONFIRM, None);
        let state = asks(&mut guard, 1, ARGUMENTS);
        let line = call(2, ARGUMENTS, &word(&state, action));
        let told = "policy refuses tool rm of s: its user did not confirm it";
        assert_eq!(why(&guard.of_client(&line, Instant::now())), told);
        assert_eq!(outcomes(&mut guard), [Outcome::Refused(told.to_owned())]);
        let line = call(3, ARGUMENTS, &word(&state, "accept"));
        assert!(why(&guard.of_client(&line, Instant::now())).contains("was used"), "{action}");
    }
    let mut guard = guard(CONFIRM, None);
    let state = asks(&mut guard, 1, ARGUMENTS);
    let line = call(2, ARGUMENTS, &json!({ "requestState": state }));
    assert!(why(&guard.of_client(&line, Instant::now())).contains("did not confirm"));
}

#[test]
fn a_state_is_for_one_call_of_one_client_and_nobody_makes_one() {
    let mut guard = guard(CONFIRM, Some("ci"));
    let state = asks(&mut guard, 1, ARGUMENTS);
    let other = call(2, r#"{"a":2}"#, &word(&state, "accept"));
    assert!(why(&guard.of_client(&other, Instant::now())).contains("was not made for this call"));
    for forged in ["osvm-confirm-1.0.AAAA", "osvm-confirm-", "osvm-confirm-\u{1}"] {
        let line = call(3, ARGUMENTS, &word(forged, "accept"));
        assert!(why(&guard.of_client(&line, Instant::now())).contains("was not made"), "{forged}");
    }
    let mut stranger = self::guard(CONFIRM, Some("other"));
    asks(&mut stranger, 1, ARGUMENTS);
    let line = call(4, ARGUMENTS, &word(&state, "accept"));
    assert!(why(&stranger.of_client(&line, Instant::now())).contains("was not made"));
    // Nothing that is said to be the server's own spares the question.
    let line = call(5, ARGUMENTS, &json!({ "requestState": "x", "inputResponses": {} }));
    let passage = guard.of_client(&line, Instant::now());
    assert_eq!(read(&passage.to_client)["result"]["resultType"], "input_required");
    assert!(passage.to_server.is_empty());
    let line = call(6, ARGUMENTS, &word(&state, "accept"));
    assert!(!guard.of_client(&line, Instant::now()).to_server.is_empty());
}

#[test]
fn a_server_that_asks_back_itself_is_answered_without_another_question_once() {
    for state in [json!({ "requestState": "\u{e4}" }), json!({})] {
        let mut guard = guard(CONFIRM, None);
        let own = asks(&mut guard, 1, ARGUMENTS);
        let line = call(2, ARGUMENTS, &word(&own, "accept"));
        guard.of_client(&line, Instant::now());
        let mut required = json!({ "resultType": "input_required", "inputRequests": { "q": {} } });
        required.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
        let required = answer(2, &required);
        assert_eq!(guard.of_server(&required, Instant::now()).to_client, required);

        let mut more = json!({ "inputResponses": { "q": { "action": "accept" } } });
        more.as_object_mut().unwrap().extend(state.as_object().unwrap().clone());
        let other = call(3, r#"{"a":2}"#, &more);
        assert!(guard.of_client(&other, Instant::now()).to_server.is_empty());
        let retry = call(4, ARGUMENTS, &more);
        assert_eq!(guard.of_client(&retry, Instant::now()).to_server, retry, "as it is");
        guard.of_server(&answer(4, &json!({ "content": [] })), Instant::now());
        let again = call(5, ARGUMENTS, &more);
        assert!(guard.of_client(&again, Instant::now()).to_server.is_empty(), "{state}");
    }
}

#[test]
fn a_call_that_comes_again_counts_once() {
    let limits = ToolLimits { confirm: false, ..CONFIRM };
    let mut guard = guard(limits, None);
    let passes = |guard: &mut Guard, id, more: &Value| {
        !guard.of_client(&call(id, ARGUMENTS, more), Instant::now()).to_server.is_empty()
    };
    let retry = json!({ "requestState": "x", "inputResponses": {} });
    assert!(passes(&mut guard, 1, &json!({})));
    for id in 1..6 {
        let required = json!({ "resultType": "input_required", "requestState": "x" });
        guard.of_server(&answer(id, &required), Instant::now());
        assert!(passes(&mut guard, id + 1, &retry));
    }
    guard.of_server(&answer(6, &json!({})), Instant::now());
    assert!(passes(&mut guard, 7, &retry), "the second of two");
    assert!(!passes(&mut guard, 8, &retry));
    // One that is confirmed counts when its user is asked.
    let mut guard = self::guard(CONFIRM, None);
    for id in [1, 3] {
        let state = asks(&mut guard, id, ARGUMENTS);
        assert!(passes(&mut guard, id + 1, &word(&state, "accept")));
    }
    let line = call(5, ARGUMENTS, &json!({}));
    assert!(why(&guard.of_client(&line, Instant::now())).contains("called too often"));
}

#[test]
fn what_waits_is_bounded_in_number_and_time() {
    let limits = ToolLimits { calls_per_minute: None, ..CONFIRM };
    let mut guard = guard(limits, None);
    let state = asks(&mut guard, 0, ARGUMENTS);
    let begin = Instant::now();
    for id in 1..MOST as u64 {
        asks(&mut guard, id, ARGUMENTS);
    }
    // Whoever has let its user wait for longest makes room.
    asks(&mut guard, 99, ARGUMENTS);
    let told =
        "policy refuses tool rm of s: nobody had confirmed it when too many others were to be";
    assert_eq!(outcomes(&mut guard), [Outcome::Refused(told.to_owned())]);
    let due = guard.next_due().unwrap();
    assert!(due <= Instant::now() + PATIENCE && due > begin);
    let late = Instant::now() + PATIENCE;
    assert_eq!(guard.due(late), Passage::default(), "its client has its answer");
    let ended = outcomes(&mut guard);
    assert_eq!((ended.len(), guard.next_due()), (MOST, None));
    let told = "policy refuses tool rm of s: nobody has confirmed it in time";
    assert!(ended.iter().all(|outcome| *outcome == Outcome::Refused(told.to_owned())));
    let line = call(100, ARGUMENTS, &word(&state, "accept"));
    assert!(why(&guard.of_client(&line, late)).contains("was used"));
    asks(&mut guard, 101, ARGUMENTS);
    guard.end(late);
    assert_eq!(outcomes(&mut guard).pop(), Some(Outcome::Cancelled));

    let required = json!({ "resultType": "input_required", "requestState": "x" });
    let required = to_raw_value(&required).unwrap();
    let mut rounds = Rounds::default();
    for number in 0..2 * MOST_EXPECTED {
        let subject = Subject::of("tools/call", &format!(r#"{{"n":{number}}}"#));
        rounds.answered(subject, &required, begin);
    }
    assert_eq!(rounds.expected.len(), MOST_EXPECTED);
}

#[test]
fn a_client_that_states_no_forms_is_refused_with_the_reason() {
    let mut guard = guard(CONFIRM, None);
    for capabilities in [r#"{}"#, r#"{"elicitation":{"url":{}}}"#] {
        let line = String::from_utf8(call(1, ARGUMENTS, &json!({}))).unwrap();
        let line = line.replace(r#"{"elicitation":{"form":{}}}"#, capabilities);
        assert!(line.contains(capabilities));
        let told = why(&guard.of_client(line.as_bytes(), Instant::now()));
        assert!(told.ends_with("it is to be confirmed, and this client can't be asked"), "{told}");
    }
}
