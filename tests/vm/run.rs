//! `osvm mcp run`: the endpoint that an assistant starts. Bytes pass as they are, whatever becomes of the server.

use std::io::{BufRead, BufReader, Write};
use std::process::Child;

use serde_json::{Value, json};

use crate::osvm::{Osvm, kill, wait};
use crate::rootfs::Rootfs;

pub(crate) const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"0"}}}"#;

pub(crate) const READY: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

pub(crate) fn say(client: &mut Child, line: &str) {
    let stdin = client.stdin.as_mut().unwrap();
    writeln!(stdin, "{line}").unwrap();
    stdin.flush().unwrap();
}

/// One after the other.
pub(crate) fn answers(client: &mut Child) -> impl FnMut() -> Value + use<> {
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    move || serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap()
}

#[test]
fn an_assistant_holds_a_whole_conversation_over_it() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let mut client = osvm.start(&["mcp", "run", "demo"]);
    let mut answer = answers(&mut client);
    say(&mut client, INITIALIZE);
    assert_eq!(answer()["result"]["serverInfo"]["name"], "osvm-demo");
    say(&mut client, READY);
    say(
        &mut client,
        r#"{"jsonrpc":"2.0","id":"x","method":"tools/call","params":{"name":"add","arguments":{"a":1,"b":2}}}"#,
    );
    let sum = answer();
    assert_eq!(sum["id"], "x");
    assert_eq!(sum["result"]["content"][0]["text"], "3");
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
}

#[test]
fn bytes_come_out_as_they_went_in() {
    let osvm = Osvm::new();
    let rootfs = Rootfs::with_server(crate::rootfs::MY_SERVER);
    // The VM is made ready by the server of its entry; this session is a mirror beside it.
    rootfs.script(
        "bin/server",
        &format!("[ -e /tmp/up ] && exec cat\n: >/tmp/up\n{}", crate::rootfs::MY_SERVER),
    );
    osvm.ok(&["mcp", "add", "mirror", "--image", rootfs.text(), "--command", "/bin/server"]);
    osvm.ok(&["mcp", "tools", "mirror"]);
    let odd =
        "{ \"b\":1.0e5,\"a\":123456789012345678901234567890, \"z\":\"\\u00e9\" }\r\n\0\u{1}é\n"
            .as_bytes();
    let mut sent = odd.to_vec();
    sent.extend([0xff, 0xfe, b'\n']);
    sent.extend("x".repeat(3_000_000).as_bytes());
    let mut client = osvm.start(&["mcp", "run", "mirror"]);
    let mut stdin = client.stdin.take().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let output = client.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(
        output.stdout == sent,
        "{} bytes went in, {} came out",
        sent.len(),
        output.stdout.len()
    );
}

pub(crate) fn call(id: u64, tool: &str, arguments: &Value) -> String {
    let params = json!({ "name": tool, "arguments": arguments });
    json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params }).to_string()
}

#[test]
fn a_server_that_is_gone_is_answered_for_and_another_takes_its_place() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let mut client = osvm.start(&["mcp", "run", "demo"]);
    let mut answer = answers(&mut client);
    say(&mut client, INITIALIZE);
    answer();
    say(&mut client, READY);
    let add = |id| call(id, "add", &json!({ "a": 1, "b": 2 }));
    let is_sum = |answer: &Value, id: u64| {
        assert_eq!(answer["id"], id, "{answer}");
        assert_eq!(answer["result"]["content"][0]["text"], "3", "{answer}");
    };

    // Its process: one request is open, and one is what ends it.
    say(&mut client, &call(1, "sleep", &json!({ "ms": 600_000 })));
    say(&mut client, &call(2, "exit", &json!({ "code": 3 })));
    let mut lost = [answer(), answer()];
    lost.sort_by_key(|answer| answer["id"].as_u64());
    for (answer, id) in lost.iter().zip([1, 2]) {
        assert_eq!(answer["id"], id);
        let why = answer["error"]["message"].as_str().unwrap();
        assert!(why.contains("code 3") && why.contains("logs demo"), "{why}");
    }
    // A new one was told what the client had said first.
    say(&mut client, &add(3));
    is_sum(&answer(), 3);

    // Its VM.
    let first = osvm.vm("demo")["id"].clone();
    say(&mut client, &call(4, "sleep", &json!({ "ms": 600_000 })));
    // What comes after it has been answered: it is there.
    say(&mut client, &add(40));
    is_sum(&answer(), 40);
    kill(osvm.vmm_processes()[0]);
    let answered = answer();
    assert_eq!(answered["id"], 4);
    assert!(answered["error"]["message"].is_string(), "{answered}");
    say(&mut client, &add(5));
    is_sum(&answer(), 5);
    assert_ne!(osvm.vm("demo")["id"], first);
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
}

#[test]
fn two_clients_of_one_server_have_a_process_each() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let mut clients: Vec<_> = (0..2).map(|_| osvm.start(&["mcp", "run", "demo"])).collect();
    for client in &mut clients {
        say(client, INITIALIZE);
        let mut line = String::new();
        let mut out = BufReader::new(client.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert!(line.contains("osvm-demo"), "{line}");
    }
    assert_eq!(osvm.vm("demo")["sessions"], 2);
    for mut client in clients {
        drop(client.stdin.take());
        wait(client);
    }
}

#[test]
fn an_unknown_server_is_an_error_and_nothing_on_standard_output() {
    let osvm = Osvm::new();
    let ended = osvm.run(&["mcp", "run", "nobody"]).expect(3);
    assert_eq!(ended.stdout, "");
}
