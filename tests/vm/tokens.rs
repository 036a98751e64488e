//! `osvm mcp gateway-token`: clients of one gateway that may do different things.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::gateway::{ALL, Gateway, Response, call};
use crate::osvm::Osvm;

/// A new token.
fn add(osvm: &Osvm, name: &str, more: &[&str]) -> String {
    let token = osvm.ok(&[&["mcp", "gateway-token", "add", name], more].concat());
    assert_eq!(token.trim().len(), 64, "{token}");
    token.trim().to_owned()
}

/// A request of the modern era.
pub(crate) fn ask(gateway: &Gateway, token: &str, server: &str, mut request: Value) -> Response {
    request["params"]["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let method = request["method"].as_str().unwrap().to_owned();
    let name = request["params"]["name"].as_str().unwrap_or_default().to_owned();
    let headers =
        [("mcp-protocol-version", "2026-07-28"), ("mcp-method", &method), ("mcp-name", &name)];
    gateway.post_by(token, server, &headers, &request)
}

fn sum(gateway: &Gateway, token: &str) -> Response {
    ask(gateway, token, "demo", call(1, "add", &json!({ "a": 1, "b": 2 })))
}

#[test]
fn a_token_sees_and_calls_what_it_may_and_the_record_names_it() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    osvm.ok(&["mcp", "add", "spare"]);
    let gateway = Gateway::start(&osvm, &[]);
    // It is known without a restart.
    let token = add(&osvm, "ci", &["--server", "demo", "--tool", "demo__add"]);
    let list = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {} });
    let listed = ask(&gateway, &token, ALL, list).json();
    let tools = listed["result"]["tools"].as_array().unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["demo__add"]);
    assert_eq!(sum(&gateway, &token).json()["result"]["content"][0]["text"], "3");
    let echo = || call(2, "echo", &json!({ "text": "x" }));
    let refused = ask(&gateway, &token, "demo", echo()).json();
    let why = "policy refuses tool echo of demo: token ci may not call it";
    assert_eq!(refused["error"]["message"], why);
    assert_eq!(ask(&gateway, &token, "spare", echo()).status, 403);
    assert!(osvm.vms().iter().all(|vm| vm["name"] == "demo"), "the other never starts");
    // The gateway's own may do everything.
    let all = ask(&gateway, &gateway.token, "demo", echo()).json();
    assert!(all["result"].is_object(), "{all}");

    let record = osvm.json(&["mcp", "audit", "--json"]);
    let calls: Vec<_> = record["calls"].as_array().unwrap().iter().collect();
    let told = |call: &Value| {
        let caller = &call["caller"];
        [&caller["way"], &caller["token"], &call["outcome"]]
            .map(|it| it.as_str().unwrap().to_owned())
    };
    let told: Vec<_> = calls.into_iter().map(told).collect();
    assert_eq!(
        told,
        [["gateway", "ci", "ok"], ["gateway", "ci", "refused"], ["gateway", "default", "ok"]]
    );
    assert!(osvm.ok(&["mcp", "audit"]).contains("gateway ci"));

    let shown = osvm.ok(&["mcp", "gateway-token", "list", "--json"]);
    let known = json!([{ "name": "ci", "servers": ["demo"], "tools": ["demo__add"], "requests_per_minute": null }]);
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), known);
    let config = std::fs::read_to_string(osvm.home().join("isolation_config.toml")).unwrap();
    assert!(config.contains("sha256") && !config.contains(&token), "{config}");
    osvm.run(&["mcp", "gateway-token", "add", "ci"]).expect(1).says(&["token ci exists already"]);
    osvm.run(&["mcp", "gateway-token", "add", "default"]).expect(2);
    osvm.ok(&["mcp", "gateway-token", "remove", "ci"]);
    assert_eq!(sum(&gateway, &token).status, 401);
    osvm.run(&["mcp", "gateway-token", "remove", "ci"]).expect(3);
    gateway.end();
}

#[test]
fn two_tokens_share_neither_a_process_nor_a_session() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let (one, other) = (add(&osvm, "one", &[]), add(&osvm, "other", &[]));
    let gateway = Gateway::start(&osvm, &[]);
    // Each share is a session with a server process of its own.
    for (token, sessions) in [(&one, 1), (&one, 1), (&other, 2), (&gateway.token, 3), (&one, 3)] {
        assert_eq!(sum(&gateway, token).json()["result"]["content"][0]["text"], "3");
        assert_eq!(osvm.vm("demo")["sessions"], sessions);
    }
    let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "0" } } });
    let begun = gateway.post_by(&one, "demo", &[], &initialize);
    assert_eq!(begun.json()["result"]["serverInfo"]["name"], "osvm-demo");
    let session = [("mcp-session-id", begun.header("mcp-session-id").unwrap())];
    let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" });
    assert_eq!(gateway.post_by(&other, "demo", &session, &ping).status, 404);
    assert_eq!(gateway.post_by(&one, "demo", &session, &ping).status, 200);
    osvm.ok(&["mcp", "gateway-token", "remove", "one"]);
    assert_eq!(gateway.post_by(&one, "demo", &session, &ping).status, 401);
    assert_eq!(gateway.post_by(&other, "demo", &session, &ping).status, 404);
    gateway.end();
}

#[test]
fn who_asks_and_calls_too_often_is_told_when_to_try_again() {
    let osvm = Osvm::with_config(
        "[[servers]]\nid = \"demo\"\ncalls_per_minute = 2\n[[servers.tools]]\nname = \"echo\"\ncalls_per_minute = 1\n",
    );
    let token = add(&osvm, "slow", &["--requests-per-minute", "3"]);
    let gateway = Gateway::start(&osvm, &[]);
    // One of the server's two calls comes by the gateway, the other by the command.
    let echo = json!({ "text": "x" });
    let by_gateway = || ask(&gateway, &gateway.token, "demo", call(1, "echo", &echo)).json();
    assert!(by_gateway()["result"].is_object());
    let refused = by_gateway()["error"]["message"].as_str().unwrap().to_owned();
    let why = "policy refuses tool echo of demo: it is called too often: the limit is 1 a minute; try again in ";
    assert!(refused.starts_with(why), "{refused}");
    assert_eq!(osvm.call("demo", "add", &json!({ "a": 1, "b": 2 })).trim(), "3");
    let third = ["mcp", "call", "demo", "add", r#"{"a":1,"b":2}"#];
    let why = "its server is called too often: the limit is 2 a minute; try again in ";
    osvm.run(&third).expect(6).says(&[why]);
    let record = osvm.json(&["mcp", "audit", "--json"]);
    let outcomes: Vec<_> =
        record["calls"].as_array().unwrap().iter().map(|c| &c["outcome"]).collect();
    assert_eq!(outcomes, ["ok", "refused", "ok", "refused"]);

    let discover =
        || json!({ "jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {} });
    for _ in 0..3 {
        assert_eq!(ask(&gateway, &token, ALL, discover()).status, 200);
    }
    let refused = ask(&gateway, &token, ALL, discover());
    assert_eq!(refused.status, 429, "{}", refused.body);
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&seconds), "{seconds}");
    assert!(refused.body.contains("token slow asks too often: the limit is 3 a minute"));
    assert_eq!(ask(&gateway, &gateway.token, ALL, discover()).status, 200);
    gateway.end();
}

#[test]
fn the_gateway_speaks_tls_with_a_certificate_whose_key_nobody_else_can_read() {
    let osvm = Osvm::new();
    let folder = osvm.runtime();
    let make = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        "key.pem",
        "-out",
        "cert.pem",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
    ];
    let made = Command::new("openssl").args(make).current_dir(folder).output();
    assert!(made.expect("openssl is installed").status.success());
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("cert.pem"), path("key.pem"));
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    let start = [&["mcp", "gateway", "--listen", "127.0.0.1:0"], &tls[..]].concat();
    let mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    osvm.run(&start).expect(1).says(&["others can read it", "chmod 600"]);
    mode(0o600);
    osvm.run(&start[..6]).expect(2).says(&["--tls-key"]);
    // A pipe, which nobody would ever write to, is not waited for.
    let pipe = path("pipe");
    let made = Command::new("mkfifo").args(["-m", "600", &pipe]).status();
    assert!(made.expect("coreutils are installed").success());
    let instead = [&start[..start.len() - 1], &[pipe.as_str()]].concat();
    osvm.run(&instead).expect(1).says(&["is no regular file"]);

    let gateway = Gateway::start(&osvm, &tls);
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let request = format!(
        "POST /servers/demo/mcp HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         connection: close\r\ncontent-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
        gateway.token,
        body.len()
    );
    let client = ["s_client", "-quiet", "-servername", "localhost", "-verify_return_error"];
    let mut client = Command::new("openssl")
        .args(client)
        .args(["-CAfile", &certificate, "-connect", &gateway.address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    client.stdin.as_mut().unwrap().write_all(request.as_bytes()).unwrap();
    let answer = String::from_utf8(client.wait_with_output().unwrap().stdout).unwrap();
    // Let in by its token, and asked for a session.
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("begins with initialize"),
        "{answer}"
    );
    gateway.end();
    fs::remove_file(certificate).and_then(|()| fs::remove_file(key)).unwrap();
}
