//! The demo as a process, met by osvm's own client in both eras.
#![expect(clippy::unwrap_used, reason = "a test ends with what it did not expect")]
#![expect(clippy::disallowed_methods, reason = "a test starts the program it tests")]

use std::process::Stdio;
use std::time::Duration;

use osvm_mcp::{CallOutcome, Client, ClientInfo, Era, Limits, McpError};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

/// Long enough for a loaded machine; no test waits for it unless it fails.
const LONG: Duration = Duration::from_secs(60);

fn start() -> Child {
    Command::new(env!("CARGO_BIN_EXE_osvm-demo"))
        .env("OSVM_DEMO_TEST", "present")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn meet(era: Era) -> (Child, Client) {
    let mut child = start();
    let (reader, writer) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    let info = ClientInfo { name: "test".to_owned(), version: "1".to_owned() };
    let client = match era {
        Era::Legacy => Client::connect(reader, writer, info, Limits::default()).await,
        Era::Modern => Client::connect_modern(reader, writer, info, Limits::default()).await,
    };
    (child, client.unwrap())
}

async fn try_call(client: &Client, tool: &str, arguments: Value) -> Result<CallOutcome, McpError> {
    client.call_tool(tool, &to_raw_value(&arguments).unwrap(), LONG).await
}

async fn call(client: &Client, tool: &str, arguments: Value) -> (String, bool, Value) {
    let outcome = try_call(client, tool, arguments).await.unwrap();
    let mut result: Value = serde_json::from_str(outcome.result.get()).unwrap();
    let text = result["content"][0]["text"].as_str().unwrap().to_owned();
    (text, outcome.is_error, result["structuredContent"].take())
}

#[tokio::test]
async fn both_eras_list_and_call_the_same_tools() {
    for era in [Era::Legacy, Era::Modern] {
        let (_child, client) = meet(era).await;
        let server = client.server();
        assert_eq!((server.era, server.name.as_deref()), (era, Some("osvm-demo")));
        let tools = client.list_tools(LONG).await.unwrap();
        assert_eq!(tools.len(), 10);
        assert!(tools.iter().all(|tool| tool.description.is_some()));
        let (text, failed, _) = call(&client, "echo", json!({ "text": "héllo\n" })).await;
        assert_eq!((&*text, failed), ("héllo\n", false));
        let (text, ..) = call(&client, "add", json!({ "a": 2, "b": 40 })).await;
        assert_eq!(text, "42");
    }
}

#[tokio::test]
async fn system_info_tells_of_this_machine_in_words_and_in_data() {
    let (child, client) = meet(Era::Legacy).await;
    let (text, failed, data) = call(&client, "system_info", json!({})).await;
    assert!(!failed);
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(data["kernel_release"], release.trim());
    assert!(text.contains(release.trim()), "{text}");
    assert!(data["interfaces"].as_array().unwrap().contains(&json!("lo")), "{data}");
    assert!(data["mounts"].as_array().unwrap().iter().any(|mount| mount["target"] == "/"));
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().unwrap())).unwrap();
    assert!(status.contains(&format!("Uid:\t{}", data["user"]["uid"])), "{data}");
}

#[tokio::test]
async fn twenty_megabytes_are_echoed() {
    let (_child, client) = meet(Era::Modern).await;
    let text = "x".repeat(20 << 20);
    assert!(call(&client, "echo", json!({ "text": text })).await.0 == text);
}

#[tokio::test]
async fn a_tool_that_fails_a_wrong_argument_and_a_missing_tool_are_three_things() {
    let (_child, client) = meet(Era::Legacy).await;
    let wrong = json!({ "a": "1", "b": 2 });
    let (text, failed, _) = call(&client, "add", wrong.clone()).await;
    assert!(failed && text.starts_with("invalid arguments: "), "{text}");
    // Once it is known what they are to be, the server is not asked.
    client.list_tools(LONG).await.unwrap();
    let refused = try_call(&client, "add", wrong).await.unwrap_err();
    assert!(matches!(refused, McpError::Arguments(_)), "{refused}");
    let (text, failed, _) = call(&client, "fail", json!({ "message": "as asked" })).await;
    assert_eq!((&*text, failed), ("as asked", true));
    let missing = try_call(&client, "ehco", json!({})).await.unwrap_err();
    let McpError::NoSuchTool { nearest, .. } = missing else { panic!("{missing}") };
    assert_eq!(nearest.as_deref(), Some("echo"));
}

#[tokio::test]
async fn a_sleeping_call_holds_up_no_other() {
    let (_child, client) = meet(Era::Legacy).await;
    let asleep = call(&client, "sleep", json!({ "ms": 3_600_000 }));
    let awake = call(&client, "echo", json!({ "text": "awake" }));
    tokio::select! {
        _ = asleep => panic!("it sleeps for an hour"),
        (text, ..) = awake => assert_eq!(text, "awake"),
    }
}

#[tokio::test]
async fn a_cancelled_call_frees_what_it_held() {
    let (child, client) = meet(Era::Legacy).await;
    let allocate = call(&client, "allocate", json!({ "mib": 4096, "keep": true }));
    let grown = until(|| resident_kib(&child) > 32 << 10);
    tokio::select! {
        _ = allocate => panic!("4 GiB in no time"),
        () = grown => {}
    }
    until(|| resident_kib(&child) < 16 << 10).await;
}

/// Looks again and again, since no event tells of another process's memory.
async fn until(mut reached: impl FnMut() -> bool) {
    let reached = async {
        while !reached() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LONG, reached).await.unwrap();
}

#[tokio::test]
async fn files_are_written_and_read_and_errors_name_them() {
    let (_child, client) = meet(Era::Legacy).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("note.txt");
    let (text, ..) = call(&client, "write_file", json!({ "path": path, "content": "kept" })).await;
    assert_eq!(text, format!("wrote 4 bytes to {}", path.display()));
    assert_eq!(call(&client, "read_file", json!({ "path": path })).await.0, "kept");
    let (text, failed, _) = call(&client, "read_file", json!({ "path": "/no/such" })).await;
    assert!(failed && text.starts_with("read /no/such: No such file"), "{text}");
}

#[tokio::test]
async fn the_environment_is_shown_one_variable_at_a_time() {
    let (_child, client) = meet(Era::Legacy).await;
    assert_eq!(call(&client, "env", json!({ "name": "OSVM_DEMO_TEST" })).await.0, "present");
    let (text, failed, _) = call(&client, "env", json!({ "name": "OSVM_DEMO_ABSENT" })).await;
    assert_eq!((&*text, failed), ("variable OSVM_DEMO_ABSENT is not set", true));
}

#[tokio::test]
async fn kept_memory_stays_and_freed_memory_goes() {
    let (child, client) = meet(Era::Legacy).await;
    let resident = || resident_kib(&child);
    call(&client, "allocate", json!({ "mib": 64 })).await;
    assert!(resident() < 64 << 10, "{} KiB", resident());
    call(&client, "allocate", json!({ "mib": 64, "keep": true })).await;
    assert!(resident() >= 64 << 10, "{} KiB", resident());
}

fn resident_kib(child: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn it_exits_with_the_status_asked_for_without_an_answer() {
    let (mut child, client) = meet(Era::Legacy).await;
    let error = try_call(&client, "exit", json!({ "code": 7 })).await.unwrap_err();
    assert!(matches!(error, McpError::ServerClosed { .. }), "{error}");
    assert_eq!(child.wait().await.unwrap().code(), Some(7));
}

#[tokio::test]
async fn it_ends_well_when_its_input_does() {
    let (mut child, client) = meet(Era::Legacy).await;
    drop(client);
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
    let mut unused = start();
    drop(unused.stdin.take());
    assert_eq!(unused.wait().await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn text_that_is_no_message_does_not_disturb_it() {
    let mut child = start();
    let mut writer = child.stdin.take().unwrap();
    writer.write_all(b"hello?\n\n\xff\n{\n").await.unwrap();
    let info = ClientInfo { name: "test".to_owned(), version: "1".to_owned() };
    let reader = child.stdout.take().unwrap();
    Client::connect(reader, writer, info, Limits::default()).await.unwrap();
}
