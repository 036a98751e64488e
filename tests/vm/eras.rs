//! Clients of one era with servers of the other, over `osvm mcp run`.

use serde_json::{Value, json};

use crate::osvm::{Osvm, wait};
use crate::rootfs::Rootfs;
use crate::run::{READY, answers, say};

/// A server that is this script.
fn registered(name: &str, script: &str) -> (Osvm, Rootfs) {
    let (osvm, rootfs) = (Osvm::new(), Rootfs::with_server(script));
    osvm.ok(&["mcp", "add", name, "--image", rootfs.text(), "--command", "/bin/server"]);
    (osvm, rootfs)
}

/// A request of the modern era.
fn modern(id: u64, method: &str, mut params: Value) -> String {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "0" },
        "io.modelcontextprotocol/clientCapabilities": { "elicitation": {} },
    });
    request(id, method, &params)
}

fn request(id: u64, method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string()
}

/// One that ends when it is asked what it does not know.
const LEGACY: &str = r#"
while read -r line; do
    id=${line#*\"id\":}; id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"legacy","version":"1"}}}' ;;
    *'"server/discover"'*) exit 9 ;;
    *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"tools":[{"name":"add","inputSchema":{"type":"object"}},{"name":"exit","inputSchema":{"type":"object"}}]}}' ;;
    *'"name":"exit"'*) exit 3 ;;
    *'"tools/call"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"content":[{"type":"text","text":"3"}]}}' ;;
    esac
done
"#;

/// One of both eras, by its first message.
const BOTH: &str = r#"
read -r line
id=${line#*\"id\":}; id=${id%%[,\}]*}
case $line in
*'"initialize"'*) era=legacy; echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"both","version":"1"}}}' ;;
*) era=modern; echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"ttlMs":0,"cacheScope":"private","own":1}}' ;;
esac
while read -r line; do
    id=${line#*\"id\":}; id=${id%%[,\}]*}
    case $line in
    *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"resultType":"complete","tools":[{"name":"era","inputSchema":{"type":"object"}}],"ttlMs":0,"cacheScope":"private"}}' ;;
    *'"tools/call"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"resultType":"complete","content":[{"type":"text","text":"'$era'"}]}}' ;;
    esac
done
"#;

#[test]
fn a_server_of_both_eras_is_spoken_to_in_its_clients() {
    let (osvm, _rootfs) = registered("both", BOTH);
    let mut client = osvm.start(&["mcp", "run", "both"]);
    let mut answer = answers(&mut client);
    say(&mut client, &modern(1, "server/discover", json!({})));
    assert_eq!(answer()["result"]["own"], 1);
    say(&mut client, &modern(2, "tools/call", json!({ "name": "era" })));
    assert_eq!(answer()["result"]["content"][0]["text"], "modern");
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
    assert_eq!(osvm.call("both", "era", &json!({})).trim(), "legacy");
}

#[test]
fn a_modern_client_speaks_with_a_legacy_server_and_with_the_one_that_takes_its_place() {
    let (osvm, _rootfs) = registered("legacy", LEGACY);
    let mut client = osvm.start(&["mcp", "run", "legacy"]);
    let mut answer = answers(&mut client);
    say(&mut client, &modern(1, "server/discover", json!({})));
    let found = answer()["result"].take();
    assert_eq!(found["supportedVersions"], json!(["2026-07-28"]), "{found}");
    assert_eq!(found["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "legacy");
    say(&mut client, &modern(2, "tools/list", json!({})));
    let listed = answer()["result"].take();
    assert_eq!((&listed["resultType"], &listed["ttlMs"]), (&json!("complete"), &json!(0)));
    assert!(listed["tools"].as_array().unwrap().len() > 1, "{listed}");
    let add =
        |id| modern(id, "tools/call", json!({ "name": "add", "arguments": { "a": 1, "b": 2 } }));
    say(&mut client, &add(3));
    assert_eq!(answer()["result"]["content"][0]["text"], "3");
    say(&mut client, &request(4, "initialize", &json!({ "protocolVersion": "2025-11-25" })));
    assert_eq!(answer()["error"]["code"], -32022);

    // Another is told of the handshake that the client knows nothing of.
    say(
        &mut client,
        &modern(5, "tools/call", json!({ "name": "exit", "arguments": { "code": 3 } })),
    );
    let lost = answer();
    assert!(lost["error"]["message"].as_str().unwrap().contains("code 3"), "{lost}");
    say(&mut client, &add(6));
    let sum = answer();
    assert_eq!((&sum["id"], &sum["result"]["content"][0]["text"]), (&json!(6), &json!("3")));
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
}

#[test]
fn a_client_that_has_said_all_at_once_is_answered() {
    let (osvm, _rootfs) = registered("legacy", LEGACY);
    let asked = [modern(1, "server/discover", json!({})), modern(2, "tools/list", json!({}))];
    let ended = osvm.run_with(&["mcp", "run", "legacy"], asked.join("\n").as_bytes()).expect(0);
    let answers = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let answers: Vec<_> = answers.collect();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert!(answers.iter().all(|answer| answer["result"].is_object()), "{answers:?}");
}

/// A server that asks, in the middle of a call, for a name, which is its result.
const ASKING: &str = r#"
while read -r line; do
    id=${line#*\"id\":}; id=${id%%[,\}]*}
    case $line in
    *'"server/discover"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"error":{"code":-32601,"message":"Method not found"}}' ;;
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"asking","version":"1"}}}' ;;
    *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"tools":[{"name":"ask","inputSchema":{"type":"object"}}]}}' ;;
    *'"tools/call"'*)
        echo '{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{"message":"which?","requestedSchema":{"type":"object","properties":{}}}}'
        read -r said; name=${said#*\"name\":\"}; name=${name%%\"*}
        echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"content":[{"type":"text","text":"'"$name"'"}]}}' ;;
    esac
done
"#;

#[test]
fn what_a_legacy_server_asks_is_a_modern_clients_result_and_its_retry_the_answer() {
    let (osvm, _rootfs) = registered("asking", ASKING);
    let mut client = osvm.start(&["mcp", "run", "asking"]);
    let mut answer = answers(&mut client);
    say(&mut client, &modern(1, "tools/call", json!({ "name": "ask", "arguments": {} })));
    let asked = answer();
    assert_eq!(
        (&asked["id"], &asked["result"]["resultType"]),
        (&json!(1), &json!("input_required"))
    );
    let requests = asked["result"]["inputRequests"].as_object().unwrap();
    let (name, question) = requests.iter().next().unwrap();
    assert_eq!(question["params"]["message"], "which?");
    let retry = json!({
        "name": "ask",
        "arguments": {},
        "requestState": asked["result"]["requestState"],
        "inputResponses": { name: { "action": "accept", "content": { "name": "this one" } } },
    });
    say(&mut client, &modern(2, "tools/call", retry));
    let done = answer();
    assert_eq!((&done["id"], &done["result"]["resultType"]), (&json!(2), &json!("complete")));
    assert_eq!(done["result"]["content"][0]["text"], "this one");
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
}

/// The same, of the modern era alone: it ends when it is met as one of the other.
const MODERN: &str = r#"
while read -r line; do
    id=${line#*\"id\":}; id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"error":{"code":-32022,"message":"Unsupported protocol version","data":{"supported":["2026-07-28"],"requested":"2025-11-25"}}}'; exit 1 ;;
    *'"server/discover"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":true}},"ttlMs":0,"cacheScope":"private","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"modern","version":"1"}}}}' ;;
    *'"subscriptions/listen"'*)
        echo '{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":'"$id"'},"notifications":{"toolsListChanged":true}}}'
        echo '{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":'"$id"'}}}' ;;
    *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"resultType":"complete","tools":[{"name":"ask","inputSchema":{"type":"object"}}],"ttlMs":0,"cacheScope":"private"}}' ;;
    *'"requestState":"mine"'*)
        name=${line#*\"name\":\"this}; name=${name%%\"*}
        echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"resultType":"complete","content":[{"type":"text","text":"this'"$name"'"}]}}' ;;
    *'"2026-07-28"'*'"tools/call"'* | *'"tools/call"'*'"2026-07-28"'*) echo '{"jsonrpc":"2.0","id":'"$id"',"result":{"resultType":"input_required","inputRequests":{"a":{"method":"elicitation/create","params":{"message":"which?","requestedSchema":{"type":"object","properties":{}}}}},"requestState":"mine"}}' ;;
    esac
done
"#;

#[test]
fn a_legacy_client_speaks_with_a_modern_server_and_is_asked_what_it_wants_to_know() {
    let (osvm, _rootfs) = registered("modern", MODERN);
    let mut client = osvm.start(&["mcp", "run", "modern"]);
    let mut answer = answers(&mut client);
    let hello = json!({
        "protocolVersion": "2025-03-26",
        "capabilities": { "elicitation": {} },
        "clientInfo": { "name": "test", "version": "0" },
    });
    say(&mut client, &request(0, "initialize", &hello));
    let met = answer()["result"].take();
    assert_eq!(
        (&met["protocolVersion"], &met["serverInfo"]["name"]),
        (&json!("2025-03-26"), &json!("modern"))
    );
    say(&mut client, READY);
    assert_eq!(answer()["method"], "notifications/tools/list_changed");
    say(&mut client, &request(1, "ping", &json!({})));
    assert_eq!(answer(), json!({ "jsonrpc": "2.0", "id": 1, "result": {} }));
    say(&mut client, &request(2, "tools/list", &json!({})));
    assert_eq!(answer()["result"]["tools"][0]["name"], "ask");
    say(&mut client, &request(3, "tools/call", &json!({ "name": "ask", "arguments": {} })));
    let asked = answer();
    assert_eq!(
        (&asked["method"], &asked["params"]["message"]),
        (&json!("elicitation/create"), &json!("which?"))
    );
    let said = json!({ "action": "accept", "content": { "name": "this one" } });
    say(&mut client, &json!({ "jsonrpc": "2.0", "id": asked["id"], "result": said }).to_string());
    let done = answer();
    assert_eq!(
        (&done["id"], &done["result"]["content"][0]["text"]),
        (&json!(3), &json!("this one"))
    );
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
}
