//! Calls that are handed out, line by line.

use std::time::Duration;

use osvm_spec::{ToolLimits, ToolPolicy};
use serde_json::{Value, json};

use super::super::{Mark, Passage, Rules, ToolSet};
use super::*;

const MODERN: &str = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;

/// A guard to which each call of `rm` is one to be handed out, of a client that has begun.
fn guard(limits: ToolLimits) -> Guard {
    let mut guard = stranger(limits);
    begin(&mut guard, r#""result":{}"#);
    guard
}

fn begin(guard: &mut Guard, answer: &str) {
    let hello = br#"{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{}}"#;
    guard.of_client(hello, Instant::now());
    let answer = format!(r#"{{"jsonrpc":"2.0","id":"hello",{answer}}}"#);
    guard.of_server(answer.as_bytes(), Instant::now());
}

/// The same of one that has not.
fn stranger(limits: ToolLimits) -> Guard {
    let limits = [("rm".to_owned(), limits)].into();
    let policy = ToolPolicy { limits, ..ToolPolicy::default() };
    let apart = ToolSet::These(["rm".to_owned()].into());
    Guard::new(Rules { server: "s".to_owned(), policy, apart, ..Rules::default() })
}

fn call(id: &str, meta: &str) -> Vec<u8> {
    call_of("rm", id, meta)
}

fn call_of(tool: &str, id: &str, meta: &str) -> Vec<u8> {
    let params = format!(r#"{{"name":"{tool}","arguments":{{"a" : 1.0}},"_meta":{meta}}}"#);
    let head = format!(r#""jsonrpc":"2.0","id":{id},"method":"tools/call""#);
    format!("{{{head},\"params\":{params}}}\n").into_bytes()
}

/// Hands out the call with that id.
fn hand_out(guard: &mut Guard, id: &str, meta: &str) -> Apart {
    assert_eq!(guard.of_client(&call(id, meta), Instant::now()), Passage::default());
    guard.take_apart().pop().unwrap()
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn answer(guard: &mut Guard, number: u64, answer: Result<&str, Unmade>) -> String {
    let result = answer.map(raw);
    let result = result.as_ref().map(AsRef::as_ref).map_err(Clone::clone);
    let passage = guard.answer_apart(number, result, Instant::now());
    assert!(passage.to_server.is_empty());
    String::from_utf8(passage.to_client.into_owned()).unwrap()
}

fn is_wanted(call: &mut Apart) -> bool {
    matches!(call.wanted.try_recv(), Err(oneshot::error::TryRecvError::Empty))
}

#[test]
fn a_call_is_handed_out_as_it_is_spelled_and_answered_under_its_id_in_its_clients_era() {
    let mut guard = guard(ToolLimits::default());
    for (meta, told) in [("{}", ""), (MODERN, r#""resultType":"complete","#)] {
        let mut call = hand_out(&mut guard, "1.0", meta);
        assert_eq!((call.tool.as_str(), call.arguments.get()), ("rm", r#"{"a" : 1.0}"#));
        assert!(is_wanted(&mut call));
        let line = answer(&mut guard, call.number, Ok(r#"{"content": [] }"#));
        let expected = format!(r#"{{"jsonrpc":"2.0","id":1.0,"result":{{{told}"content": [] }}}}"#);
        assert_eq!(line, expected + "\n");
        let ended = guard.take_ended();
        assert_eq!((&ended[0].outcome, ended[0].apart), (&Outcome::Ok, Some(call.number)));
        assert!(!is_wanted(&mut call));
        assert_eq!(answer(&mut guard, call.number, Ok("{}")), "", "it was answered");
    }
}

#[test]
fn where_all_tools_but_some_are_apart_so_is_any_name_and_nothing_else() {
    let apart = ToolSet::AllBut(["ls".to_owned()].into());
    let limits = ToolLimits { timeout: Some(Duration::from_secs(1)), ..ToolLimits::default() };
    let policy = ToolPolicy { limits: [("rm".to_owned(), limits)].into(), ..ToolPolicy::default() };
    let rules = Rules { apart, policy, ..Rules::default() };
    assert!(!rules.has_timeouts(), "no call that the session's server hears has one");
    let mut guard = Guard::new(rules);
    begin(&mut guard, r#""result":{}"#);
    for (id, tool, meta) in [("1", "rm", "{}"), ("2", "nobody's", "{}"), ("3", "rm", MODERN)] {
        let line = call_of(tool, id, meta);
        assert_eq!(guard.of_client(&line, Instant::now()), Passage::default());
        assert_eq!(guard.take_apart().pop().unwrap().tool, tool);
    }
    let spelled = |tool, id| String::from_utf8(call_of(tool, id, "{}")).unwrap().replace('\n', "");
    let (one, own, two) = (spelled("rm", "4"), spelled("ls", "5"), spelled("mv", "6"));
    let batch = format!("[{one},{own},{two}]\n");
    let passage = guard.of_client(batch.as_bytes(), Instant::now());
    assert_eq!(passage.to_server, format!("[{own}]\n").as_bytes());
    let tools: Vec<_> = guard.take_apart().into_iter().map(|call| call.tool).collect();
    assert_eq!(tools, ["rm", "mv"]);
    let list = b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/list\"}\n";
    assert_eq!(guard.of_client(list, Instant::now()).to_server, &list[..]);
}

#[test]
fn what_a_call_reaches_is_told_from_the_beginning_of_its_own_vm() {
    let mut guard = guard(ToolLimits::default());
    guard.mark(Mark { place: 1, at: 2_000 });
    let call = hand_out(&mut guard, "1", "{}");
    answer(&mut guard, call.number, Ok("{}"));
    assert_eq!(guard.take_ended()[0].mark, Some(Mark::default()));
}

#[test]
fn what_became_of_a_call_is_told_as_of_any_other() {
    let long = "the result of tool rm has 31 bytes, and policy allows 30";
    let limits = ToolLimits { max_result_bytes: Some(30), ..ToolLimits::default() };
    let mut guard = guard(limits);
    let text = |text: &str| text.to_owned();
    let result = format!(r#"{{"content":"{}"}}"#, "x".repeat(17));
    for (made, code, outcome) in [
        (Ok(result.as_str()), -32603, Outcome::Refused(text(long))),
        (Err(Unmade::Refused(text("no"))), -32602, Outcome::Refused(text("no"))),
        (Err(Unmade::Failed(text("lost"))), -32603, Outcome::Failed(text("lost"))),
        (Err(Unmade::TimedOut(text("late"))), -32603, Outcome::TimedOut),
    ] {
        let number = hand_out(&mut guard, "7", "{}").number;
        let line: Value = serde_json::from_str(&answer(&mut guard, number, made)).unwrap();
        assert_eq!((&line["id"], &line["error"]["code"]), (&json!(7), &json!(code)));
        assert_eq!(guard.take_ended()[0].outcome, outcome);
    }
    let number = hand_out(&mut guard, "7", MODERN).number;
    let misfit = answer(&mut guard, number, Err(Unmade::Misfit(text("at /a"))));
    let result = serde_json::from_str::<Value>(&misfit).unwrap()["result"].clone();
    assert_eq!((&result["isError"], &result["resultType"]), (&json!(true), &json!("complete")));
    let number = hand_out(&mut guard, "7", "{}").number;
    answer(&mut guard, number, Ok(r#"{"isError":true}"#));
    let outcomes: Vec<_> = guard.take_ended().into_iter().map(|ended| ended.outcome).collect();
    assert_eq!(outcomes, [Outcome::Refused(text("at /a")), Outcome::ToolError]);
}

#[test]
fn a_call_of_a_client_that_has_not_begun_as_its_era_has_it_is_answered_for_its_server() {
    let mut guard = stranger(ToolLimits::default());
    let refusal = |guard: &mut Guard, meta: &str| {
        let line = call("1", meta);
        let passage = guard.of_client(&line, Instant::now());
        assert!(passage.to_server.is_empty() && guard.take_apart().is_empty());
        let ended = guard.take_ended().pop().unwrap();
        assert!(matches!(ended.outcome, Outcome::Failed(_)), "{:?}", ended.outcome);
        serde_json::from_slice::<Value>(&passage.to_client).unwrap()["error"].clone()
    };
    assert_eq!(refusal(&mut guard, "{}")["code"], -32600);
    begin(&mut guard, r#""error":{"code":-32603,"message":"no"}"#);
    assert_eq!(refusal(&mut guard, "{}")["code"], -32600, "its handshake was refused");
    let unknown = refusal(&mut guard, &MODERN.replace("2026-07-28", "2099-01-01"));
    let data = json!({ "supported": ["2026-07-28"], "requested": "2099-01-01" });
    assert_eq!((&unknown["code"], &unknown["data"]), (&json!(-32022), &data));
    let silent = r#"{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    assert_eq!(refusal(&mut guard, silent)["code"], -32602, "it says not what it can do");
    hand_out(&mut guard, "1", MODERN);
    begin(&mut guard, r#""result":{}"#);
    hand_out(&mut guard, "2", "{}");
}

#[test]
fn an_error_of_its_server_is_told_as_the_server_spelled_it() {
    let mut guard = guard(ToolLimits::default());
    let number = hand_out(&mut guard, "7", "{}").number;
    let error = r#"{"code" : -32042,"message":"sign in","data":{"x" : 1.0}, "more":[]}"#;
    let line = answer(&mut guard, number, Err(Unmade::Error(raw(error))));
    assert_eq!(line, format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"error\":{error}}}\n"));
    let error = r#"{"code":-32000,"message":"full","data":{"free":0}}"#;
    let number = hand_out(&mut guard, "7", "{}").number;
    answer(&mut guard, number, Err(Unmade::Error(raw(error))));
    let ended = guard.take_ended().pop().unwrap();
    assert_eq!(ended.outcome, Outcome::Failed("full".to_owned()));
    assert_eq!(ended.result.unwrap().bytes, error.len() as u64);
}

#[test]
fn a_call_is_over_when_its_client_cancels_it_or_leaves_and_the_server_hears_nothing_of_it() {
    let limits = ToolLimits { timeout: Some(Duration::from_secs(1)), ..ToolLimits::default() };
    let mut guard = guard(limits);
    let mut one = hand_out(&mut guard, "1", "{}");
    let mut two = hand_out(&mut guard, "\"2\"", "{}");
    assert_eq!(guard.next_due(), None, "its time begins when its VM is there");
    for id in ["1", "1.0", "2"] {
        let spoof = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
        let passage = guard.of_server(spoof.as_bytes(), Instant::now());
        assert_eq!(passage, Passage::default(), "the session's server was not asked");
    }
    let cancel = envelope::cancelled(&1, "enough");
    assert_eq!(guard.of_client(&cancel, Instant::now()), Passage::default());
    assert!(!is_wanted(&mut one) && is_wanted(&mut two));
    assert_eq!(answer(&mut guard, one.number, Ok("{}")), "");
    guard.end(Instant::now());
    assert!(!is_wanted(&mut two));
    let ended: Vec<_> = guard.take_ended().into_iter().map(|it| (it.apart, it.outcome)).collect();
    let cancelled = |call: &Apart| (Some(call.number), Outcome::Cancelled);
    assert_eq!(ended, [cancelled(&one), cancelled(&two)]);
}

#[test]
fn not_many_are_out_at_once_and_none_that_nobody_waits_for() {
    let mut guard = guard(ToolLimits::default());
    let refusal = |guard: &mut Guard, line: &[u8]| {
        let passage = guard.of_client(line, Instant::now());
        assert!(passage.to_server.is_empty() && guard.take_apart().is_empty());
        let Some(Outcome::Refused(why)) = guard.take_ended().pop().map(|it| it.outcome) else {
            panic!("it is refused")
        };
        assert_eq!(passage.to_client.is_empty(), !String::from_utf8_lossy(line).contains("\"id\""));
        why
    };
    let calls: Vec<_> =
        (1..=Apart::MOST).map(|id| hand_out(&mut guard, &id.to_string(), "{}")).collect();
    let why = refusal(&mut guard, &call("9", "{}"));
    assert!(why.contains("8 calls in microVMs of their own are open"));
    answer(&mut guard, calls[3].number, Ok("{}"));
    guard.take_ended();
    hand_out(&mut guard, "9", "{}");
    let unasked = br#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"rm"}}"#;
    assert!(refusal(&mut guard, unasked).contains("nobody waits"));
    let task =
        br#"{"jsonrpc":"2.0","id":10,"method":"tools/call","params":{"name":"rm","task":{}}}"#;
    assert!(refusal(&mut guard, task).contains("task"));
}

#[test]
fn a_call_that_is_to_be_confirmed_is_handed_out_when_it_is() {
    let mut guard = guard(ToolLimits { confirm: true, ..ToolLimits::default() });
    let hello = br#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"capabilities":{"elicitation":{}}}}"#;
    guard.of_client(hello, Instant::now());
    let line = call("1", "{}");
    let passage = guard.of_client(&line, Instant::now());
    assert!(guard.take_apart().is_empty());
    let question: Value = serde_json::from_slice(&passage.to_client).unwrap();
    let word = json!({ "jsonrpc": "2.0", "id": question["id"], "result": { "action": "accept" } });
    let word = word.to_string();
    assert_eq!(guard.of_client(word.as_bytes(), Instant::now()), Passage::default());
    assert_eq!(guard.take_apart().len(), 1);
}
