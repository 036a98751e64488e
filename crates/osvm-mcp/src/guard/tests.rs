//! Conversations under a policy, line by line.

use std::time::Duration;

use osvm_spec::{ToolLimits, ToolPolicy};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn policy(denied: &[&str], limits: &[(&str, ToolLimits)]) -> ToolPolicy {
    ToolPolicy {
        denied: denied.iter().map(|tool| tool.parse().unwrap()).collect(),
        limits: limits.iter().map(|(tool, limits)| ((*tool).to_owned(), *limits)).collect(),
        ..ToolPolicy::default()
    }
}

fn guard(policy: ToolPolicy) -> Guard {
    Guard::new(Rules { server: "s".to_owned(), policy, ..Rules::default() })
}

fn request(id: &str, method: &str, params: &Value) -> Vec<u8> {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}\n")
        .into_bytes()
}

fn call(id: &str, tool: &str) -> Vec<u8> {
    request(id, "tools/call", &json!({ "name": tool, "arguments": { "a": 1 } }))
}

fn answer(id: &str, result: &Value) -> Vec<u8> {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n").into_bytes()
}

fn now() -> Instant {
    Instant::now()
}

fn read(line: &[u8]) -> Value {
    serde_json::from_slice(line).unwrap()
}

fn outcomes(guard: &mut Guard) -> Vec<(String, Outcome)> {
    guard.take_ended().into_iter().map(|ended| (ended.tool, ended.outcome)).collect()
}

#[test]
fn what_holds_for_calls_is_asked_for_calls_alone() {
    let capabilities = json!({ "elicitation": {} });
    let mut guard = confirming(&capabilities);
    let mut asked = |line: &[u8]| {
        let mut count = 0;
        let passage = guard.of_client_calling(line, now(), &mut |_| count += 1);
        (count, serde_json::from_slice::<Value>(&passage.to_client).unwrap_or_default())
    };
    for line in [
        request("0", "initialize", &json!({ "capabilities": capabilities })),
        request("1", "tools/list", &json!({})),
        answer("2", &json!({})),
    ] {
        assert_eq!(asked(&line).0, 0);
    }
    assert_eq!(asked(&call("3", "ls")).0, 1);
    let [four, five] = ["4", "5"].map(|id| call(id, "ls"));
    let batch = [b"[", four.trim_ascii(), b",", five.trim_ascii(), b"]\n"].concat();
    assert_eq!(asked(&batch).0, 2);
    let (_, question) = asked(&call("6", "rm"));
    let word = answer(&question["id"].to_string(), &json!({ "action": "accept" }));
    assert_eq!(asked(&word).0, 1, "it goes on now");
}

#[test]
fn a_denied_tool_is_answered_for_and_never_heard_of_by_the_server() {
    let mut guard = guard(policy(&["rm*"], &[]));
    let line = call("\"x\"", "rmdir");
    let passage = guard.of_client(&line, now());
    assert!(passage.to_server.is_empty());
    let refusal = read(&passage.to_client);
    assert_eq!((&refusal["id"], &refusal["error"]["code"]), (&json!("x"), &json!(-32602)));
    let why = refusal["error"]["message"].as_str().unwrap();
    assert_eq!(why, "policy refuses tool rmdir of s: it is denied");
    assert_eq!(outcomes(&mut guard), [("rmdir".to_owned(), Outcome::Refused(why.to_owned()))]);
    let line = call("1", "ls");
    assert_eq!(guard.of_client(&line, now()).to_server, line);
}

#[test]
fn there_is_no_spelling_of_a_call_that_gets_past() {
    let spellings = [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools\/call","params":{"name":"\u0072m"}}"#,
        r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"rm"}}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"tools/call","params":{"name":"rm"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ls","name":"rm"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ls","Name":"rm"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"rm"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"rm"}}"#,
        r#"{"id":1,"method":"tools/call","params":{"name":"rm"}}"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm"}}]"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm"}}"#,
        r#"[[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm"}}]]"#,
        "{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"params\":\r{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"rm\"}}\r}",
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["rm"]}"#,
    ];
    for text in spellings {
        let mut guard = guard(policy(&["rm"], &[]));
        let line = format!("{text}\n").into_bytes();
        let passage = guard.of_client(&line, now());
        assert!(passage.to_server.is_empty(), "{text}");
    }
    let mut bytes = call("1", "r@m");
    let at = bytes.iter().position(|byte| *byte == b'@').unwrap();
    bytes[at] = 0xff;
    assert!(guard(policy(&["rm"], &[])).of_client(&bytes, now()).to_server.is_empty());
}

#[test]
fn of_a_batch_the_rest_goes_on() {
    let mut guard = guard(policy(&["rm"], &[]));
    let batch = |calls: &[&str]| format!("[{}]\n", calls.join(",")).into_bytes();
    let trim = |line: Vec<u8>| String::from_utf8(line).unwrap().trim().to_owned();
    let (good, bad) = (trim(call("1", "ls")), trim(call("2", "rm")));
    let line = batch(&[&good, &bad]);
    let passage = guard.of_client(&line, now());
    assert_eq!(passage.to_server, batch(&[&good]));
    assert_eq!(read(&passage.to_client)["id"], 2);
}

#[test]
fn a_list_loses_what_is_not_allowed_and_only_a_list() {
    let mut guard = guard(policy(&["rm"], &[]));
    let ask = request("1", "tools/list", &json!({}));
    guard.of_client(&ask, now());
    let tools = json!({ "tools": [{ "name": "ls" }, { "name": "rm" }], "nextCursor": "2" });
    let line = answer("1.0", &tools);
    let passage = guard.of_server(&line, now());
    assert_eq!(
        passage.to_client,
        answer("1.0", &json!({ "tools": [{ "name": "ls" }], "nextCursor": "2" }))
    );
    assert_eq!(guard.of_server(&line, now()).to_client, line, "it was asked for once");
    guard.of_client(&ask, now());
    let broken = answer("1", &json!({ "tools": 7 }));
    assert_eq!(read(&guard.of_server(&broken, now()).to_client)["error"]["code"], -32603);
}

#[test]
fn arguments_that_do_not_fit_are_the_tools_error_once_its_schema_is_known() {
    let mut guard = guard(ToolPolicy::default());
    let wrong = request("2", "tools/call", &json!({ "name": "t", "arguments": { "a": "x" } }));
    assert_eq!(guard.of_client(&wrong, now()).to_server, wrong, "it is not known");
    guard.of_server(&answer("2", &json!({})), now());
    guard.of_client(&request("1", "tools/list", &json!({})), now());
    let schema = json!({ "properties": { "a": { "type": "integer" } } });
    let list = answer("1", &json!({ "tools": [{ "name": "t", "inputSchema": schema }] }));
    assert_eq!(guard.of_server(&list, now()).to_client, list);
    let passage = guard.of_client(&wrong, now());
    assert!(passage.to_server.is_empty());
    let result = read(&passage.to_client)["result"].clone();
    assert_eq!((&result["isError"], &result["resultType"]), (&json!(true), &Value::Null));
    let why = result["content"][0]["text"].as_str().unwrap();
    assert!(why.starts_with("the arguments of tool t do not fit its schema: at /a: "), "{why}");
    assert!(matches!(outcomes(&mut guard)[1].1, Outcome::Refused(_)));
    let right = call("3", "t");
    assert_eq!(guard.of_client(&right, now()).to_server, right);
    let meta = json!({ "io.modelcontextprotocol/protocolVersion": "2026-07-28" });
    let wrong = json!({ "name": "t", "arguments": { "a": "x" }, "_meta": meta });
    let line = request("4", "tools/call", &wrong);
    let passage = guard.of_client(&line, now());
    assert_eq!(read(&passage.to_client)["result"]["resultType"], "complete");
}

#[test]
fn a_long_result_gives_way_to_an_error_however_its_id_is_spelled() {
    for id in ["1", "1.0", "\"1\"", "\"0x1\""] {
        let limits = ToolLimits { max_result_bytes: Some(20), ..ToolLimits::default() };
        let mut guard = guard(policy(&[], &[("cat", limits)]));
        guard.of_client(&call("1", "cat"), now());
        let line = answer(id, &json!({ "content": "x".repeat(20) }));
        let said = read(&guard.of_server(&line, now()).to_client);
        let why = "the result of tool cat has 34 bytes, and policy allows 20";
        assert_eq!(said["error"]["message"], why, "{id}");
        assert_eq!(outcomes(&mut guard)[0].1, Outcome::Refused(why.to_owned()));
        guard.of_client(&call("1", "cat"), now());
        let line = answer(id, &json!({ "content": "x" }));
        assert_eq!(guard.of_server(&line, now()).to_client, line);
    }
}

/// A guard whose tool `rm` is to be confirmed, and a client that says what it can do.
fn confirming(capabilities: &Value) -> Guard {
    let limits = ToolLimits { confirm: true, ..ToolLimits::default() };
    let mut guard = guard(policy(&[], &[("rm", limits)]));
    guard.of_client(&request("0", "initialize", &json!({ "capabilities": capabilities })), now());
    guard
}

#[test]
fn a_call_to_be_confirmed_waits_for_its_users_word() {
    for (action, goes_on) in [("accept", true), ("decline", false), ("cancel", false)] {
        let mut guard = confirming(&json!({ "elicitation": {} }));
        let line = call("5", "rm");
        let passage = guard.of_client(&line, now());
        assert!(passage.to_server.is_empty());
        let question = read(&passage.to_client);
        assert_eq!(question["method"], "elicitation/create");
        let told = r#"osvm: may tool rm of server s be called with {"a":1}?"#;
        assert_eq!(question["params"]["message"], told);
        let word = answer(&question["id"].to_string(), &json!({ "action": action }));
        let passage = guard.of_client(&word, now());
        if goes_on {
            assert_eq!(passage, Passage { to_server: line.into(), to_client: Cow::default() });
        } else {
            assert!(passage.to_server.is_empty());
            let why = read(&passage.to_client)["error"]["message"].clone();
            assert_eq!(why, "policy refuses tool rm of s: its user did not confirm it");
        }
        let passage = guard.of_client(&word, now());
        assert_eq!(passage, Passage::default(), "a word counts once");
        assert_eq!(guard.open_calls(), usize::from(goes_on));
    }
}

#[test]
fn the_id_of_a_call_that_waits_for_its_user_is_nobodys_else() {
    let mut guard = confirming(&json!({ "elicitation": {} }));
    let line = call("5", "rm");
    let question = read(&guard.of_client(&line, now()).to_client);
    let other = call("5", "cat");
    let again = guard.of_client(&other, now());
    assert!(again.to_server.is_empty());
    assert_eq!(read(&again.to_client)["error"]["code"], -32600);
    for id in ["5", "5.0", "\"5\""] {
        let forged = answer(id, &json!({ "content": [] }));
        assert_eq!(guard.of_server(&forged, now()), Passage::default(), "{id}: it was not asked");
    }
    let word = answer(&question["id"].to_string(), &json!({ "action": "accept" }));
    assert_eq!(guard.of_client(&word, now()).to_server, line);
    let result = answer("5", &json!({ "content": [] }));
    assert_eq!(guard.of_server(&result, now()).to_client, result);
}

#[test]
fn a_client_that_cannot_be_asked_is_refused_with_the_reason() {
    for capabilities in [json!({}), json!({ "elicitation": { "url": {} } })] {
        let line = call("5", "rm");
        let mut guard = confirming(&capabilities);
        let passage = guard.of_client(&line, now());
        assert!(passage.to_server.is_empty());
        let why = read(&passage.to_client)["error"]["message"].clone();
        assert!(why.as_str().unwrap().ends_with("this client can't be asked"), "{why}");
    }
    let mut guard = confirming(&json!({ "elicitation": {} }));
    let nobody_waits = br#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"rm"}}"#;
    assert_eq!(guard.of_client(nobody_waits, now()), Passage::default());
}

#[test]
fn a_server_cannot_ask_in_the_guards_name() {
    let mut guard = confirming(&json!({ "elicitation": {} }));
    guard.of_client(&call("5", "rm"), now());
    for id in ["\"osvm-confirm-1\"", "\"\\u006fsvm-confirm-1\""] {
        let ask = request(id, "elicitation/create", &json!({ "message": "Nice weather?" }));
        let passage = guard.of_server(&ask, now());
        assert!(passage.to_client.is_empty());
        assert_eq!(read(&passage.to_server)["error"]["code"], -32600);
    }
    let other = request("\"mine\"", "elicitation/create", &json!({}));
    assert_eq!(guard.of_server(&other, now()).to_client, other);
    let word = answer("\"mine\"", &json!({ "action": "accept" }));
    assert_eq!(guard.of_client(&word, now()).to_server, word);
}

#[test]
fn a_question_is_bounded_in_number_size_and_time() {
    let mut guard = confirming(&json!({ "elicitation": {} }));
    let begin = now();
    for id in 1..=64 {
        assert!(
            read(&guard.of_client(&call(&id.to_string(), "rm"), begin).to_client)["method"]
                .is_string()
        );
    }
    let line = call("65", "rm");
    let refused = read(&guard.of_client(&line, begin).to_client);
    assert!(refused["error"]["message"].as_str().unwrap().contains("too much is waiting"));
    guard.of_client(
        &envelope::cancelled(&RawValue::from_string("1".to_owned()).unwrap(), ""),
        begin,
    );
    let due = guard.next_due().unwrap();
    assert_eq!(due, begin + Duration::from_secs(600));
    let passage = guard.due(due);
    assert!(passage.to_server.is_empty());
    let lines = passage.to_client.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    assert_eq!(lines.count(), 2 * 63, "each is withdrawn and answered");
    let ended = outcomes(&mut guard);
    assert_eq!(ended.iter().filter(|(_, outcome)| *outcome == Outcome::Cancelled).count(), 1);
    assert_eq!((ended.len(), guard.next_due()), (65, None));
    let long = json!({ "name": "rm", "arguments": { "a": "x".repeat(1 << 20) } });
    let line = request("9", "tools/call", &long);
    assert!(read(&guard.of_client(&line, begin).to_client)["error"].is_object());
}

#[test]
fn a_call_that_takes_too_long_is_answered_once_and_cancelled() {
    let limits = ToolLimits { timeout: Some(Duration::from_secs(5)), ..ToolLimits::default() };
    let mut guard = guard(policy(&[], &[("slow", limits)]));
    let begin = now();
    guard.of_client(&call("7", "slow"), begin);
    let due = begin + Duration::from_secs(5);
    assert_eq!(guard.next_due(), Some(due));
    assert_eq!(guard.due(due - Duration::from_millis(1)), Passage::default());
    let passage = guard.due(due);
    let error = read(&passage.to_client);
    assert_eq!(error["id"], 7);
    assert_eq!(error["error"]["message"], "tool slow did not answer within 5 s");
    let cancel = read(&passage.to_server);
    assert_eq!(cancel["method"], "notifications/cancelled");
    assert_eq!(cancel["params"]["requestId"], 7);
    let late = answer("7", &json!({}));
    assert!(guard.of_server(&late, due).to_client.is_empty(), "it was answered");
    assert_eq!(guard.of_server(&late, due).to_client, late, "that is not the guard's to judge");
    assert_eq!(
        (guard.next_due(), outcomes(&mut guard)),
        (None, vec![("slow".to_owned(), Outcome::TimedOut)])
    );
}

#[test]
fn what_becomes_of_each_call_is_told_once() {
    let mut guard = guard(ToolPolicy::default());
    let begin = now();
    for (id, tool) in [("1", "a"), ("2", "b"), ("3", "c"), ("4", "d"), ("5", "e")] {
        guard.of_client(&call(id, tool), begin);
    }
    let end = begin + Duration::from_millis(70);
    guard.of_server(&answer("1", &json!({ "content": [] })), end);
    guard.of_server(&answer("2", &json!({ "isError": true })), end);
    let error = br#"{"jsonrpc":"2.0","id":3,"error":{"code":-32603,"message":"lost"}}"#;
    guard.of_server(error, end);
    let cancel = envelope::cancelled(&RawValue::from_string("4".to_owned()).unwrap(), "");
    guard.of_client(&cancel, end);
    guard.end(end);
    guard.end(end);
    let ended = guard.take_ended();
    let told: Vec<_> = ended.iter().map(|ended| (ended.tool.as_str(), &ended.outcome)).collect();
    let expected = [
        ("a", &Outcome::Ok),
        ("b", &Outcome::ToolError),
        ("c", &Outcome::Failed("lost".to_owned())),
        ("d", &Outcome::Cancelled),
        ("e", &Outcome::Cancelled),
    ];
    assert_eq!(told, expected);
    assert_eq!(ended[0].took, Duration::from_millis(70));
    let sum = "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862";
    let arguments = Body { bytes: 7, sha256: sum.to_owned(), text: None };
    assert_eq!(ended[0].arguments, arguments, "sha256sum of {{\"a\":1}}");
    assert_eq!((ended[0].result.as_ref().unwrap().bytes, &ended[4].result), (14, &None));
}

#[test]
fn no_tool_is_called_without_a_record_that_there_must_be() {
    let mut guard = guard(ToolPolicy::default());
    guard.shut(Some("no space".to_owned()));
    let line = call("1", "ls");
    let passage = guard.of_client(&line, now());
    assert!(passage.to_server.is_empty());
    assert_eq!(read(&passage.to_client)["error"]["message"], "no space");
    guard.shut(None);
    assert_eq!(guard.of_client(&line, now()).to_server, line);
}

#[test]
fn the_client_is_known_by_what_it_says_of_itself() {
    let mut guard = guard(ToolPolicy::default());
    let info = json!({ "name": "a\u{1b}b", "version": "2" });
    guard.of_client(&request("0", "initialize", &json!({ "clientInfo": info })), now());
    let name = ClientName { name: "a\u{fffd}b".to_owned(), version: Some("2".to_owned()) };
    assert_eq!(guard.client(), Some(&name));
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut guard = guard(policy(&["x"], &[]));
    for id in 0..MOST_OPEN + 10 {
        guard.of_client(&call(&id.to_string(), "ls"), now());
        guard.of_client(&request(&format!("\"l{id}\""), "tools/list", &json!({})), now());
    }
    assert_eq!((guard.calls.len(), guard.lists.len()), (MOST_OPEN, MOST_OPEN));
    assert_eq!(guard.take_ended().len(), 10, "what went beyond was refused");
    let long = call(&format!("\"{}\"", "i".repeat(2000)), "ls");
    assert!(guard.of_client(&long, now()).to_server.is_empty());
    (0..2 * MOST_OPEN).for_each(|id| guard.answered_for(Id::Number(id.to_string())));
    assert_eq!(guard.answered.len(), MOST_OPEN);
}

fn open_call(guard: &mut Guard, id: &str) {
    let line =
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"cat"}}}}"#);
    assert!(guard.of_client(line.as_bytes(), now()).to_client.is_empty());
}

#[test]
fn no_second_use_of_an_id_and_no_cancelled_call_gets_past_the_limits() {
    let limits = ToolLimits { max_result_bytes: Some(1), ..ToolLimits::default() };
    let mut guard = guard(policy(&[], &[("cat", limits)]));
    open_call(&mut guard, "1");
    for again in ["1", "1.0", "1e0"] {
        let line = format!(r#"{{"jsonrpc":"2.0","id":{again},"method":"ping"}}"#);
        let passage = guard.of_client(line.as_bytes(), now());
        assert!(passage.to_server.is_empty() && !passage.to_client.is_empty(), "{again}");
    }
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    assert!(!guard.of_client(cancel.as_bytes(), now()).to_server.is_empty());
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"content":"much"}}"#;
    assert!(guard.of_server(answer.as_bytes(), now()).to_client.is_empty());
}

#[test]
fn answers_in_spellings_of_a_servers_own_do_not_get_past_the_limits() {
    let limits = ToolLimits { max_result_bytes: Some(1), ..ToolLimits::default() };
    let long = format!("1.{}", "0".repeat(2000));
    for id in [r#"1,"id":1"#, &long, "\"\u{feff}1\"", r#""1""#] {
        let mut guard = guard(policy(&[], &[("cat", limits)]));
        open_call(&mut guard, "1");
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":"much"}}}}"#);
        let passage = guard.of_server(answer.as_bytes(), now());
        assert!(!String::from_utf8_lossy(&passage.to_client).contains("much"), "{id}");
    }
    // Of two that are alike, the one that is the same.
    let mut guard = guard(policy(&[], &[("cat", limits)]));
    open_call(&mut guard, "1");
    open_call(&mut guard, r#""1""#);
    let answer = r#"{"jsonrpc":"2.0","id":"1","result":1}"#;
    assert!(!guard.of_server(answer.as_bytes(), now()).to_client.is_empty());
    assert_eq!(guard.open_calls(), 1);
}

/// JSON in spellings that a round trip through a parser would lose.
fn spelled() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("1.0e+02".to_owned()),
        Just("123456789012345678901234567890.10".to_owned()),
        Just(r#""\u0061\/""#.to_owned()),
        Just(r#"{"tools":[ {"name" : "rm"} ]}"#.to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop::collection::vec(inner, 0..4).prop_map(|all| format!("[ {} ]", all.join(" ,")))
    })
}

proptest! {
    #[test]
    fn what_the_guard_need_not_understand_passes_byte_for_byte(
        json in spelled(), extra in spelled(), id in "[1-9][0-9]{0,3}", tail in "[ \t\r]{0,2}\n?",
        method in prop_oneof![Just("tools/list"), Just("resources/read"), Just("x/tools")],
    ) {
        let limits = ToolLimits { max_result_bytes: Some(1), ..ToolLimits::default() };
        let mut guard = guard(policy(&["rm"], &[("cat", limits)]));
        let from_client = [
            format!(r#"{{"id": {id},"X":{extra},"method":"{method}", "jsonrpc":"2.0","params":{json}}}{tail}"#),
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{json} }}{tail}"#),
            format!(r#"{{"jsonrpc":"2.0","id":{id}0,"params":{{"name":"ls","arguments":{json}}},"method":"tools/call"}}{tail}"#),
        ];
        for line in from_client {
            let passage = guard.of_client(line.as_bytes(), now());
            prop_assert_eq!(&passage.to_server[..], line.as_bytes());
            prop_assert!(passage.to_client.is_empty());
        }
        let mut unasked = super::tests::guard(policy(&["rm"], &[]));
        let from_server = [
            format!(r#"{{"id": "a{id}","result":{json}, "Y":{extra},"jsonrpc":"2.0"}}{tail}"#),
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{json}}}{tail}"#),
        ];
        for line in from_server {
            let passage = unasked.of_server(line.as_bytes(), now());
            prop_assert_eq!(&passage.to_client[..], line.as_bytes());
            prop_assert!(passage.to_server.is_empty());
        }
    }

    #[test]
    fn without_a_policy_any_bytes_pass(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut guard = Guard::default();
        prop_assert_eq!(&guard.of_client(&bytes, now()).to_server[..], &bytes[..]);
        prop_assert_eq!(&guard.of_server(&bytes, now()).to_client[..], &bytes[..]);
    }
}
