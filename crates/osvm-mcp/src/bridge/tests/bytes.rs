//! What the bridge need not understand passes as it is spelled, and nothing is too strange for it.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::legacy::begun;
use super::*;

/// Text around which a parser would lose something, or that is none.
fn spelled() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("123456789012345678901234567890.10e+02".to_owned()),
        Just(r#"{ "b":1.0 ,"a" : [ -0 ],"b":null}"#.to_owned()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        any::<String>().prop_map(|text| format!(r#"["\u0061\/", {}]"#, json!(text))),
    ]
}

const META: &str = r#""_meta" : {"io.modelcontextprotocol/protocolVersion":"2026-07-28", "x": 1.0,"io.modelcontextprotocol/clientCapabilities":{ }}"#;

proptest! {
    #[test]
    fn of_a_modern_client_a_request_passes_and_a_result_grows_by_a_field(
        arguments in spelled(), extra in spelled(), id in prop_oneof![Just("1.50"), Just(r#""\u0062""#)],
    ) {
        let mut talk = met();
        let asks = format!(
            r#"{{ "params":{{"x":{arguments},{META}}}, "method":"tools\/call","id":{id} ,"jsonrpc":"2.0","more":{extra}}}"#
        );
        let step = talk.bridge.of_client(asks.as_bytes(), talk.now);
        let asked = asks.replacen(META, r#""_meta" : {"x":1.0}"#, 1);
        prop_assert_eq!(String::from_utf8(step.to_server.concat()).unwrap(), asked);
        let result = format!(r#""z" : {arguments},"y":{extra} "#);
        let says = format!(r#"{{"id":{id}, "jsonrpc":"2.0", "w":{extra},"result": {{{result}}} }}"#);
        let step = talk.bridge.of_server(says.as_bytes(), talk.now);
        let grown = says.replacen(&result, &format!(r#""resultType":"complete",{result}"#), 1);
        prop_assert_eq!(String::from_utf8(step.to_client.concat()).unwrap(), grown);
    }

    #[test]
    fn of_a_legacy_client_a_result_passes_and_a_request_grows_by_what_it_must_say(
        arguments in spelled(), extra in spelled(),
    ) {
        let mut talk = begun();
        let asks = format!(
            r#"{{"id":1, "method":"tools/call","jsonrpc":"2.0","more":{extra}, "params" : {{ "x":{arguments}}} }}"#
        );
        let step = talk.bridge.of_client(asks.as_bytes(), talk.now);
        let passed = String::from_utf8(step.to_server.concat()).unwrap();
        let params = format!(r#" "x":{arguments}}}"#);
        let (before, after) = asks.split_once(&params).unwrap();
        prop_assert!(passed.starts_with(&format!(r#"{before}"_meta":{{"#)), "{passed}");
        prop_assert!(passed.ends_with(&format!("}},{params}{after}")), "{passed}");
        let says = format!(r#"{{"id":1, "jsonrpc":"2.0","result": {{ "z" : {arguments},"y":{extra}}} }}"#);
        let step = talk.bridge.of_server(says.as_bytes(), talk.now);
        prop_assert_eq!(step.to_client, [says.as_bytes()]);
        let says = format!(r#"{{"method":"notifications/message" ,"jsonrpc":"2.0","params":{{"data":{extra}}}}}"#);
        let step = talk.bridge.of_server(says.as_bytes(), talk.now);
        prop_assert_eq!(step.to_client, [says.as_bytes()]);
    }

    /// Whatever is said, in whatever order: no panic, and every line that comes of it is a message.
    #[test]
    fn nothing_is_too_strange(talks in any::<bool>(), lines in prop::collection::vec((any::<bool>(), line()), 0..60)) {
        let mut talk = if talks { met() } else { begun() };
        for (of_client, line) in lines {
            let step = match of_client {
                true => talk.bridge.of_client(line.as_bytes(), talk.now),
                false => talk.bridge.of_server(line.as_bytes(), talk.now),
            };
            for line in step.to_client.iter().chain(&step.to_server) {
                let text = std::str::from_utf8(line).unwrap();
                prop_assert!(crate::envelope::Envelope::parse(text).is_ok(), "{text}");
            }
        }
        talk.bridge.lost("gone");
        talk.bridge.expire(talk.now + PATIENCE);
    }
}

/// Messages of few ids and many methods, so that they meet.
fn line() -> impl Strategy<Value = String> {
    let methods = [
        "initialize",
        "server/discover",
        "tools/call",
        "resources/read",
        "tools/list",
        "ping",
        "elicitation/create",
        "roots/list",
        "subscriptions/listen",
        "resources/subscribe",
        "resources/unsubscribe",
        "logging/setLevel",
        "notifications/cancelled",
        "notifications/initialized",
        "notifications/message",
        "notifications/resources/updated",
        "notifications/subscriptions/acknowledged",
    ];
    let id = 0..4_u64;
    let params = (0..7_usize, id.clone()).prop_map(|(which, id)| match which {
        0 => json!({ "uri": "file:///a", "level": "info", "protocolVersion": "2025-06-18" }),
        1 => json!({ "requestId": id }),
        2 => json!({ "notifications": { "toolsListChanged": true, "resourceSubscriptions": ["file:///a"] } }),
        3 => json!({ "requestState": format!("{id}.1.x"), "inputResponses": { "input-1": {} } }),
        4 => json!([]),
        5 => json!({ "_meta": id }),
        _ => json!({ "name": "a" }),
    });
    let results = prop_oneof![
        Just(json!({})),
        Just(json!(null)),
        Just(json!({ "resultType": "input_required", "requestState": "x" })),
        Just(
            json!({ "resultType": "input_required", "inputRequests": { "a": { "method": "elicitation/create" } } })
        ),
        Just(initialized()),
    ];
    let asks = (prop::sample::select(methods.to_vec()), params, id.clone(), any::<bool>())
        .prop_map(|(method, params, id, is_modern)| {
            match (method.starts_with("notifications/"), is_modern) {
                (true, _) => notification(method, params),
                (false, true) if params.is_object() && !params["_meta"].is_number() => {
                    modern_of(id, method, params, json!({ "elicitation": {}, "roots": {} }))
                }
                (false, _) => request(id, method, params),
            }
        });
    let says = (id, results).prop_map(|(id, result)| answer(&json!({ "id": id }), &result));
    let all = prop_oneof![3 => asks, 2 => says];
    prop_oneof![
        8 => all.clone().prop_map(|message: Value| message.to_string()),
        1 => prop::collection::vec(all, 0..4).prop_map(|all| Value::Array(all).to_string()),
        1 => any::<String>(),
    ]
}
