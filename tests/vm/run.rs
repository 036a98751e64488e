//! `osvm mcp run`: the endpoint that an assistant starts. Bytes pass as they are.

use std::io::{BufRead, BufReader, Write};
use std::process::Child;

use serde_json::Value;

use crate::osvm::{Osvm, wait};
use crate::rootfs::Rootfs;

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"0"}}}"#;

fn say(client: &mut Child, line: &str) {
    let stdin = client.stdin.as_mut().unwrap();
    writeln!(stdin, "{line}").unwrap();
    stdin.flush().unwrap();
}

#[test]
fn an_assistant_holds_a_whole_conversation_over_it() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let mut client = osvm.start(&["mcp", "run", "demo"]);
    let mut answers = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut answer =
        || -> Value { serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap() };
    say(&mut client, INITIALIZE);
    assert_eq!(answer()["result"]["serverInfo"]["name"], "osvm-demo");
    say(&mut client, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
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
