//! What is said of a server's tools: refused before the server hears of it, and recorded.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Child;

use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::osvm::{Osvm, eventually, wait};
use crate::rootfs::{MY_SERVER, Rootfs};

/// Tells its log what it hears, and has two tools.
fn teller() -> Rootfs {
    let script = MY_SERVER
        .replace("read -r line; do", "read -r line; do echo \"heard $line\" >&2;")
        .replace(r#""tools":[{"#, r#""tools":[{"name":"rm","inputSchema":{"type":"object"}},{"#);
    assert!(script.contains("heard") && script.contains("rm"));
    Rootfs::with_server(&script)
}

fn say(client: &mut Child, message: &Value) {
    let stdin = client.stdin.as_mut().unwrap();
    writeln!(stdin, "{message}").unwrap();
    stdin.flush().unwrap();
}

/// One after the other.
fn answers(client: &mut Child) -> impl FnMut() -> Value + use<> {
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    move || serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
}

fn request(id: u64, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

fn call(id: u64, tool: &str, arguments: &Value) -> Value {
    request(id, "tools/call", &json!({ "name": tool, "arguments": arguments }))
}

/// Begins as clients do.
fn greet(client: &mut Child, answer: &mut impl FnMut() -> Value) {
    let info = json!({ "name": "test-client", "version": "7" });
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": info });
    say(client, &request(0, "initialize", &params));
    answer();
    say(client, &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
}

#[test]
fn a_denied_tool_is_refused_whichever_way_it_is_called_and_the_record_shows_it() {
    let osvm = Osvm::new();
    let rootfs = teller();
    let add = ["mcp", "add", "t", "--image", rootfs.text(), "--deny-tool", "r*"];
    osvm.ok(&[&add[..], &["--command", "/bin/server"]].concat());

    osvm.run(&["mcp", "call", "t", "rm", r#"{"x":"one"}"#])
        .expect(6)
        .says(&["policy", "rm", "denied"]);
    assert!(!osvm.ok(&["mcp", "tools", "t"]).contains("rm"));
    osvm.ok(&["mcp", "call", "t", "my-tool", r#"{"x":"two"}"#]);

    let mut client = osvm.start(&["mcp", "run", "t"]);
    let mut answer = answers(&mut client);
    greet(&mut client, &mut answer);
    say(&mut client, &request(1, "tools/list", &json!({})));
    let tools = answer()["result"]["tools"].clone();
    assert_eq!(tools, json!([{ "name": "my-tool", "inputSchema": { "type": "object" } }]));
    say(&mut client, &call(2, "rm", &json!({ "x": "three" })));
    let refused = answer();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(2), &json!(-32602)));
    say(&mut client, &call(3, "my-tool", &json!({ "x": "four" })));
    assert_eq!(answer()["id"], 3);
    let log = || osvm.ok(&["mcp", "microvm", "logs", "t"]);
    eventually("the server tells what it heard", || log().contains("four"));
    let heard = log();
    assert!(heard.contains("two") && !heard.contains("one") && !heard.contains("three"), "{heard}");
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));

    let calls = osvm.json(&["mcp", "audit", "--json"])["calls"].clone();
    let seen: Vec<_> =
        calls.as_array().unwrap().iter().map(|call| (&call["tool"], &call["outcome"])).collect();
    let (refused, ok, rm, mine) = (json!("refused"), json!("ok"), json!("rm"), json!("my-tool"));
    assert_eq!(seen, [(&rm, &refused), (&mine, &ok), (&rm, &refused), (&mine, &ok)]);
    let vm = osvm.vm("t");
    let last = &calls[3];
    assert_eq!((&last["vm"], &last["image"]), (&vm["id"], &vm["image"]));
    assert_eq!(last["caller"]["client"], "test-client");
    assert_eq!(
        (&last["arguments"]["bytes"], &last["arguments"]["body"]),
        (&json!(12), &Value::Null)
    );

    let shown = osvm.ok(&["mcp", "audit", "--tool", "rm", "--since", "1h", "--last", "1"]);
    assert!(shown.contains("run test-client 7") && !shown.contains("my-tool"), "{shown}");
    assert!(osvm.ok(&["mcp", "audit", "--verify"]).starts_with("4 lines follow"));
    let file = osvm.home().join("logs/audit.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen("my-tool", "no-tool", 1)).unwrap();
    osvm.run(&["mcp", "audit", "--verify"]).expect(1).says(&["line 2 was changed"]);
}

#[test]
fn results_and_times_beyond_a_tools_limits_give_way_to_errors() {
    let osvm = Osvm::with_config(
        "[[servers]]\nid = \"demo\"\n\
         [[servers.tools]]\nname = \"sleep\"\ntimeout_seconds = 1\n\
         [[servers.tools]]\nname = \"echo\"\nmax_result_bytes = 300\n\
         [[servers.tools]]\nname = \"add\"\nisolation = \"ephemeral\"\n\
         [[servers.tools]]\nname = \"env\"\nconfirm = true\n",
    );
    let env = ["mcp", "call", "demo", "env", r#"{"name":"PATH"}"#];
    osvm.run(&env).expect(6).says(&["confirm", "--yes"]);
    osvm.ok(&[&env[..], &["--yes"]].concat());
    osvm.run(&["mcp", "call", "demo", "sleep", r#"{"ms":600000}"#]).expect(7);
    let long = json!({ "text": "x".repeat(400) });
    osvm.run(&["mcp", "call", "demo", "echo", &long.to_string()]).expect(6).says(&["300"]);

    let mut client = osvm.start(&["mcp", "run", "demo"]);
    let mut answer = answers(&mut client);
    greet(&mut client, &mut answer);
    let mut refusal = |message: &Value| {
        say(&mut client, message);
        let said = answer();
        assert_eq!(said["id"], message["id"], "{said}");
        said["error"]["message"].as_str().map(str::to_owned)
    };
    let timed_out = refusal(&call(1, "sleep", &json!({ "ms": 600_000 }))).unwrap();
    assert_eq!(timed_out, "tool sleep did not answer within 1 s");
    assert!(refusal(&call(2, "echo", &long)).unwrap().contains("policy allows 300"));
    assert_eq!(refusal(&call(3, "echo", &json!({ "text": "x" }))), None);
    assert_eq!(refusal(&call(4, "add", &json!({ "a": 1, "b": 2 }))), None);
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
}

/// The demo server, of which some tools have a VM of their own for each call.
const APART: &str = "[microvm]\ncall_timeout_seconds = 600\n\
     [[servers]]\nid = \"demo\"\n\
     [[servers.tools]]\nname = \"read_file\"\nisolation = \"ephemeral\"\n\
     [[servers.tools]]\nname = \"write_file\"\nisolation = \"ephemeral\"\n\
     [[servers.tools]]\nname = \"sleep\"\nisolation = \"ephemeral\"\n";

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What a tool said.
fn said(answer: &Value) -> String {
    answer["result"]["content"][0]["text"].as_str().unwrap_or_default().trim().to_owned()
}

#[test]
fn a_tool_with_a_vm_of_its_own_for_each_call_has_it_behind_a_client_too() {
    let osvm = Osvm::with_config(APART);
    let mut client = osvm.start(&["mcp", "run", "demo"]);
    let mut answer = answers(&mut client);
    greet(&mut client, &mut answer);
    say(&mut client, &request(1, "tools/list", &json!({})));
    let tools = answer()["result"]["tools"].to_string();
    assert!(tools.contains("read_file") && tools.contains("sleep"), "{tools}");
    say(&mut client, &call(2, "system_info", &json!({})));
    let own = answer()["result"]["structuredContent"]["boot_id"].clone();

    // Two beside each other, each from a machine of its own.
    let boot_id = json!({ "path": BOOT_ID });
    say(&mut client, &call(3, "read_file", &boot_id));
    say(&mut client, &call(4, "read_file", &boot_id));
    let told = [answer(), answer()];
    let mut ids: Vec<_> = told.iter().map(|answer| answer["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, [3, 4]);
    let boots = told.each_ref().map(said);
    assert!(boots.iter().all(|boot| boot.len() == 36 && *boot != own), "{boots:?}, not {own}");
    assert_ne!(boots[0], boots[1]);

    let write = json!({ "path": "/tmp/x", "content": "one" });
    say(&mut client, &call(5, "write_file", &write));
    assert_eq!(answer()["result"]["isError"], json!(false));
    say(&mut client, &call(6, "read_file", &json!({ "path": "/tmp/x" })));
    assert_eq!(answer()["result"]["isError"], json!(true), "what was written is gone");

    let long = json!({ "ms": 600_000 });
    say(&mut client, &call(7, "sleep", &long));
    say(&mut client, &call(8, "sleep", &long));
    let ready = || osvm.vms().iter().filter(|vm| vm["state"] == "ready").count();
    eventually("two VMs run beside the session's", || ready() == 3);
    say(&mut client, &call(9, "echo", &json!({ "text": "beside" })));
    assert_eq!(said(&answer()), "beside");
    let cancel = json!({ "requestId": 7 });
    say(
        &mut client,
        &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel }),
    );
    eventually("a cancelled call's VM ends", || osvm.vms().len() == 2);
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
    eventually("the VM of a call whose client has left ends", || osvm.vms().len() == 1);

    let calls = osvm.json(&["mcp", "audit", "--json"])["calls"].clone();
    let calls = calls.as_array().unwrap();
    let of = |tool: &str| calls.iter().filter(move |call| call["tool"] == tool).collect::<Vec<_>>();
    let session = &of("echo")[0]["vm"];
    let apart: Vec<_> = [of("read_file"), of("write_file"), of("sleep")].concat();
    let vms: BTreeSet<_> = apart.iter().map(|call| call["vm"].as_str().unwrap()).collect();
    assert_eq!((apart.len(), vms.len()), (6, 6), "{calls:?}");
    assert!(!vms.contains(session.as_str().unwrap()) && session == &osvm.vm("demo")["id"]);
    assert!(of("sleep").iter().all(|call| call["outcome"] == "cancelled"), "{calls:?}");
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_call_with_a_vm_of_its_own_starts_no_other_and_speaks_its_clients_era() {
    let osvm = Osvm::with_config(APART);
    let mut client = osvm.start(&["mcp", "run", "demo"]);
    let mut answer = answers(&mut client);
    greet(&mut client, &mut answer);
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);

    // What the server has said of itself is known from now on, and no VM needed for it.
    let mut client = osvm.start(&["mcp", "run", "demo"]);
    let mut answer = answers(&mut client);
    greet(&mut client, &mut answer);
    say(&mut client, &call(1, "read_file", &json!({ "path": BOOT_ID })));
    let told = answer();
    assert_eq!((said(&told).len(), &told["result"]["resultType"]), (36, &Value::Null), "{told}");
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));

    let mut client = osvm.start(&["mcp", "run", "demo"]);
    let mut answer = answers(&mut client);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "name": "read_file", "arguments": { "path": BOOT_ID }, "_meta": meta });
    say(&mut client, &request(1, "tools/call", &params));
    let told = answer();
    assert_eq!((said(&told).len(), &told["result"]["resultType"]), (36, &json!("complete")));
    let params = json!({ "name": "read_file", "arguments": { "path": 7 }, "_meta": meta });
    say(&mut client, &request(2, "tools/call", &params));
    let told = answer();
    assert_eq!(told["result"]["isError"], json!(true), "{told}");
    assert!(osvm.vms().iter().all(|vm| vm["name"] != "demo"), "{:?}", osvm.vms());
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
    eventually("its VM ends", || osvm.vms().is_empty());
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_client_of_an_ephemeral_server_finds_nothing_of_its_last_call_whichever_way_it_comes() {
    let osvm = Osvm::with_config("[[servers]]\nid = \"demo\"\nisolation_mode = \"ephemeral\"\n");
    let mut client = osvm.start(&["mcp", "run", "demo"]);
    let mut answer = answers(&mut client);
    greet(&mut client, &mut answer);
    say(&mut client, &request(1, "tools/list", &json!({})));
    assert!(answer()["result"]["tools"].to_string().contains("read_file"));
    let write = json!({ "path": "/tmp/x", "content": "one" });
    say(&mut client, &call(2, "write_file", &write));
    assert_eq!(answer()["result"]["isError"], json!(false));
    say(&mut client, &call(3, "read_file", &json!({ "path": "/tmp/x" })));
    assert_eq!(answer()["result"]["isError"], json!(true), "what was written is gone");
    let boot_id = json!({ "path": BOOT_ID });
    say(&mut client, &call(4, "read_file", &boot_id));
    let mut boots = BTreeSet::from([said(&answer())]);
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));

    // Clients of the modern era share a conversation, and no VM.
    let gateway = Gateway::start(&osvm, &[]);
    let mut read = call(1, "read_file", &boot_id);
    read["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "read_file"),
    ];
    for _ in 0..2 {
        let answer = gateway.post_by(&gateway.token, "demo", &headers, &read).json();
        boots.insert(said(&answer));
    }
    gateway.end();
    assert!(boots.len() == 3 && boots.iter().all(|boot| boot.len() == 36), "{boots:?}");

    let calls = osvm.json(&["mcp", "audit", "--json"])["calls"].clone();
    let calls = calls.as_array().unwrap();
    let vms: BTreeSet<_> = calls.iter().map(|call| call["vm"].as_str().unwrap()).collect();
    assert_eq!((calls.len(), vms.len()), (5, 5), "{calls:?}");
    eventually("the VMs of both sessions end", || osvm.vms().is_empty());
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_modern_client_confirms_a_call_by_making_it_again() {
    let osvm = Osvm::with_config(
        "[[servers]]\nid = \"demo\"\n[[servers.tools]]\nname = \"echo\"\nconfirm = true\n",
    );
    let mut client = osvm.start(&["mcp", "run", "demo"]);
    let mut answer = answers(&mut client);
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": { "elicitation": { "form": {} } },
    });
    let mut params = json!({ "name": "echo", "arguments": { "text": "hello" }, "_meta": meta });
    for (id, action) in [(1, "accept"), (3, "decline")] {
        params.as_object_mut().unwrap().retain(|name, _| name != "requestState");
        say(&mut client, &request(id, "tools/call", &params));
        let asked = answer()["result"].clone();
        assert_eq!(asked["resultType"], "input_required", "{asked}");
        let questions = asked["inputRequests"].as_object().unwrap();
        let names: Vec<_> = questions.keys().collect();
        params["requestState"] = asked["requestState"].clone();
        params["inputResponses"] = json!({ names[0]: { "action": action, "content": {} } });
        say(&mut client, &request(id + 1, "tools/call", &params));
        let told = answer();
        let why = told["error"]["message"].as_str().unwrap_or_default();
        let is_so = match action {
            "accept" => said(&told) == "hello",
            _ => why.ends_with("did not confirm it"),
        };
        assert!(is_so, "{action}: {told}");
    }
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
    let calls = osvm.json(&["mcp", "audit", "--json"])["calls"].clone();
    let outcomes: Vec<_> = calls.as_array().unwrap().iter().map(|call| &call["outcome"]).collect();
    assert_eq!(outcomes, ["ok", "refused"]);
}

#[test]
fn changed_limits_reach_a_client_that_is_connected() {
    let config = |limit: &str| format!("[[servers]]\nid = \"demo\"\n{limit}");
    let osvm = Osvm::with_config(&config(""));
    let mut client = osvm.start(&["mcp", "run", "demo"]);
    let mut answer = answers(&mut client);
    greet(&mut client, &mut answer);
    let mut echo = |id| {
        say(&mut client, &call(id, "echo", &json!({ "text": "x" })));
        let told = answer();
        told["error"]["message"].as_str().map(str::to_owned)
    };
    assert!((1..4).all(|id| echo(id).is_none()));
    osvm.write_config(&config("calls_per_minute = 1\n"));
    assert_eq!(echo(4), None);
    assert!(echo(5).unwrap().contains("the limit is 1 a minute"));
    osvm.run(&["mcp", "call", "demo", "echo", r#"{"text":"x"}"#]).expect(6).says(&["too often"]);
    osvm.write_config(&config(""));
    assert_eq!(echo(6), None);
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
}

#[test]
fn a_recorded_server_is_held_to_its_policy_under_its_other_name() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo", "--deny-tool", "exit"]);
    let mut client = osvm.start(&["mcp", "run", "demo", "--record"]);
    let mut answer = answers(&mut client);
    greet(&mut client, &mut answer);
    say(&mut client, &call(1, "exit", &json!({ "code": 3 })));
    assert_eq!(answer()["error"]["code"], -32602);
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
    let call = osvm.json(&["mcp", "audit", "--json"])["calls"][0].clone();
    assert_eq!((&call["server"], &call["outcome"]), (&json!("demo"), &json!("refused")));
}

#[test]
fn wrong_arguments_never_reach_the_guest_once_its_tools_are_known() {
    let osvm = Osvm::new();
    let schema =
        r#""my-tool","inputSchema":{"type":"object","properties":{"x":{"type":"integer"}}}"#;
    let script = MY_SERVER
        .replace("read -r line; do", "read -r line; do echo \"heard $line\" >&2;")
        .replace(r#""my-tool","inputSchema":{"type":"object"}"#, schema);
    let rootfs = Rootfs::with_server(&script);
    // Locked, so that its tools are known when it is ready.
    osvm.ok(&["mcp", "add", "t", "--image", rootfs.text(), "--command", "/bin/server"]);
    osvm.run(&["mcp", "call", "t", "my-tool", r#"{"x":"one"}"#]).expect(5).says(&["/x", "integer"]);

    let mut client = osvm.start(&["mcp", "run", "t"]);
    let mut answer = answers(&mut client);
    greet(&mut client, &mut answer);
    say(&mut client, &request(1, "tools/list", &json!({})));
    answer();
    say(&mut client, &call(2, "my-tool", &json!({ "x": "two" })));
    let refused = answer();
    assert_eq!((&refused["id"], &refused["result"]["isError"]), (&json!(2), &json!(true)));
    say(&mut client, &call(3, "my-tool", &json!({ "x": 4711 })));
    assert_eq!(answer()["id"], 3);
    let log = || osvm.ok(&["mcp", "microvm", "logs", "t"]);
    eventually("the server tells what it heard", || log().contains("4711"));
    let heard = log();
    assert!(!heard.contains("one") && !heard.contains("two"), "{heard}");
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
    let calls = osvm.json(&["mcp", "audit", "--json"])["calls"].clone();
    let outcomes: Vec<_> = calls.as_array().unwrap().iter().map(|call| &call["outcome"]).collect();
    assert_eq!(outcomes, ["refused", "refused", "ok"]);
}

#[test]
fn bodies_are_recorded_where_that_is_asked_for_without_secrets() {
    let osvm = Osvm::with_config("[audit]\nbodies = true\n").env("TOKEN", "hunter2");
    osvm.ok(&["mcp", "add", "demo", "--secret", "TOKEN"]);
    osvm.ok(&["mcp", "call", "demo", "echo", r#"{"text":"say hunter2"}"#]);
    let call = osvm.json(&["mcp", "audit", "--json"])["calls"][0].clone();
    assert_eq!(call["arguments"]["body"], r#"{"text":"say (hidden)"}"#);
    assert!(call["result"]["body"].as_str().unwrap().contains("say (hidden)"), "{call}");
    let text = fs::read_to_string(osvm.home().join("logs/audit.jsonl")).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_call_goes_on_without_a_record_unless_one_is_required() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    // No line can be added to it.
    fs::create_dir_all(osvm.home().join("logs/audit.jsonl")).unwrap();
    let add = ["mcp", "call", "demo", "add", r#"{"a":1,"b":2}"#];
    assert_eq!(osvm.ok(&add).trim(), "3");
    let log = fs::read_to_string(osvm.home().join("run/daemon.log")).unwrap();
    assert!(log.contains("a tool call is not recorded"), "{log}");
    let config = osvm.home().join("isolation_config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text + "\n[audit]\nrequired = true\n").unwrap();
    osvm.run(&add).expect(6).says(&["can't be recorded", "audit.jsonl"]);
}
