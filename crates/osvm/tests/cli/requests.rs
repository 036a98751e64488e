//! The commands that ask the daemon: what they ask, what they make of its answers.

use std::io::Write;
use std::process::{Child, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use osvm_daemon::stream::{ExecExit, ExecFrame};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::fake::{Answer, Fake, Stream, error, ready, vm};
use crate::osvm::{Osvm, Ran};

const CALL: &str = "POST /v1/servers/s/call";
const LAUNCH: &str = "POST /v1/vms";
const VMS: &str = "GET /v1/vms";

fn answer(text: &str, is_error: bool) -> Answer {
    let result = json!({ "content": [{ "type": "text", "text": text }], "isError": is_error });
    Answer::Json(200, json!({ "result": result, "is_error": is_error }))
}

fn piped(osvm: &Osvm, args: &[&str]) -> Child {
    let mut command = osvm.command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn end(mut child: Child, input: &[u8]) -> Ran {
    child.stdin.take().unwrap().write_all(input).unwrap();
    Ran::from(child.wait_with_output().unwrap())
}

fn next(news: &Receiver<String>) -> String {
    news.recv_timeout(Duration::from_secs(30)).unwrap()
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

#[test]
fn a_call_prints_the_text_of_the_answer() {
    let osvm = Osvm::new();
    let (fake, _) = Fake::start(&osvm, [(CALL, answer("hello", false))]);
    assert_eq!(osvm.ok(&["mcp", "call", "s", "greet", r#"{"param":"value"}"#]), "hello\n");
    let told = json!({ "tool": "greet", "arguments": { "param": "value" },
                       "timeout_seconds": null, "overrides": {} });
    assert_eq!(fake.last_body(), told);
    osvm.ok(&["mcp", "call", "s", "greet", "--args", r#"{"a":1}"#, "--timeout", "5"]);
    assert_eq!(
        (&fake.last_body()["arguments"], &fake.last_body()["timeout_seconds"]),
        (&json!({ "a": 1 }), &json!(5))
    );
    osvm.ok(&["mcp", "call", "s", "greet", "--yes"]);
    assert_eq!(fake.last_body()["confirmed"], true);
    osvm.ok(&["mcp", "call", "s", "greet"]);
    assert_eq!(fake.last_body()["arguments"], json!({}));
    let result = osvm.ok(&["mcp", "call", "s", "greet", "--json"]);
    assert_eq!(
        result,
        "{\"content\":[{\"text\":\"hello\",\"type\":\"text\"}],\"isError\":false}\n"
    );
}

#[test]
fn twenty_megabytes_of_arguments_go_through() {
    let osvm = Osvm::new();
    let (fake, _) = Fake::start(&osvm, [(CALL, answer("got it", false))]);
    let text = "x".repeat(20 << 20);
    let child = piped(&osvm, &["mcp", "call", "s", "t", "-"]);
    assert_eq!(end(child, json!({ "text": text }).to_string().as_bytes()).stdout, "got it\n");
    assert_eq!(fake.last_body()["arguments"]["text"].as_str().unwrap().len(), text.len());
}

#[test]
fn a_tools_error_is_shown_and_is_exit_code_5() {
    let osvm = Osvm::new();
    Fake::start(&osvm, [(CALL, answer("no such city", true))]);
    let ran = osvm.run(&["mcp", "call", "s", "t"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (5, "no such city\n"));
    assert!(ran.stderr.starts_with("error: tool t of s reported an error\n"));
}

#[test]
fn every_kind_of_refusal_has_its_exit_code() {
    let kinds = [
        ("failed", 1),
        ("usage", 2),
        ("no_such", 3),
        ("unavailable", 4),
        ("tool_error", 5),
        ("refused", 6),
        ("timed_out", 7),
    ];
    for (kind, code) in kinds {
        let osvm = Osvm::new();
        Fake::start(&osvm, [(CALL, Answer::Json(500, error(kind, "it did not work")))]);
        let ran = osvm.run(&["mcp", "call", "s", "t"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{kind}");
        assert_eq!(ran.stderr, "error: it did not work\nhint: look here\n");
    }
}

#[test]
fn variables_say_what_flags_do_not() {
    let osvm = Osvm::new();
    let (fake, _) = Fake::start(&osvm, [(LAUNCH, Answer::Lines(ready("NAME")))]);
    let mut command = osvm.command(&["mcp", "microvm", "launch", "s", "--memory", "512"]);
    let variables = [("OSVM_MEMORY_MB", "128"), ("OSVM_VCPUS", "3"), ("OSVM_HYPERVISOR", "qemu")];
    assert!(command.envs(variables).env("OSVM_ROOTFS", "r").output().unwrap().status.success());
    let image = osvm.folder().join("r");
    let told = json!({ "memory_mb": 512, "vcpus": 3, "hypervisor": "qemu", "image": image });
    assert_eq!(fake.last_body(), json!({ "name": "s", "overrides": told }));
}

#[test]
fn launch_says_what_runs_and_how_long_it_took() {
    let osvm = Osvm::new();
    let mut demo = ready("NAME");
    demo[2]["vm"]["demo"] = json!(true);
    Fake::start(&osvm, [(LAUNCH, Answer::LinesFor("demo", demo, ready("NAME")))]);
    let own = osvm.run(&["mcp", "microvm", "launch", "s"]);
    let told = "s is ready: VM 0123abcd, qemu 7.2.0 (tcg), 512 MiB, 2 vcpus, first MCP reply after 1234 ms\n";
    assert_eq!((own.stdout.as_str(), own.stderr.as_str()), (told, ""));
    let demo = osvm.run(&["mcp", "microvm", "launch", "demo", "--json"]);
    assert_eq!(demo.stderr, "warning: demo runs the built-in demo server\n");
    assert_eq!(serde_json::from_str::<Value>(&demo.stdout).unwrap()["id"], "0123abcd");
}

#[test]
fn a_launch_that_fails_half_way_says_why() {
    let osvm = Osvm::new();
    let failed = json!({ "event": "failed", "error": error("unavailable", "the VMM ended") });
    let lines = vec![json!({ "event": "state", "state": "booting" }), failed];
    Fake::start(&osvm, [(LAUNCH, Answer::Lines(lines))]);
    let ran = osvm.run(&["mcp", "microvm", "launch", "s"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (4, ""));
    assert_eq!(ran.stderr, "error: the VMM ended\nhint: look here\n");
}

#[test]
fn ctrl_c_hangs_up_on_the_launch_and_is_exit_code_130() {
    let osvm = Osvm::new();
    let (_, news) = Fake::start(&osvm, [(LAUNCH, Answer::Silence)]);
    let child = piped(&osvm, &["mcp", "microvm", "launch", "s"]);
    assert_eq!(next(&news), LAUNCH);
    interrupt(&child);
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (130, "error: interrupted\n"));
    assert_eq!(next(&news), format!("hung up on {LAUNCH}"));
}

#[test]
fn many_launches_are_measured_and_failures_counted() {
    let osvm = Osvm::new();
    let failed = error("unavailable", "launch many-3: no memory");
    let failed = vec![json!({ "event": "failed", "error": failed })];
    let launches = Answer::LinesFor("many-3", failed, ready("NAME"));
    let taken = Answer::Json(200, json!([vm("many-2"), vm("other")]));
    let (fake, _) = Fake::start(&osvm, [(VMS, taken), (LAUNCH, launches)]);
    let ran = osvm.run(&["mcp", "microvm", "launch-many", "4", "--memory", "128", "--json"]);
    assert_eq!(ran.code, 4, "{}", ran.stderr);
    let summary: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&summary["asked"], &summary["ready"]), (&json!(4), &json!(3)));
    assert_eq!(summary["vms"], json!(["many-1", "many-4", "many-5"]));
    let cause = json!([{ "kind": "unavailable", "cause": "launch NAME: no memory", "count": 1 }]);
    assert_eq!(summary["failures"], cause);
    assert!(ran.stderr.contains("look here"), "{}", ran.stderr);
    assert_eq!(fake.body_of(LAUNCH)["overrides"], json!({ "memory_mb": 128 }));
}

#[test]
fn many_launches_are_measured_even_where_one_cannot_be_stopped() {
    let osvm = Osvm::new();
    let vms = (VMS, Answer::Json(200, json!([])));
    let stuck =
        ("DELETE /v1/vms/many-1?id=0123abcd", Answer::Json(500, error("failed", "it is stuck")));
    Fake::start(&osvm, [vms, (LAUNCH, Answer::Lines(ready("NAME"))), stuck]);
    let ran = osvm.run(&["mcp", "microvm", "launch-many", "2", "--stop"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (1, "error: it is stuck\nhint: look here\n"));
    assert!(ran.stdout.starts_with("2 ready, 0 failed, "), "{}", ran.stdout);
}

#[test]
fn many_launches_are_stopped_when_asked_for() {
    let osvm = Osvm::new();
    let vms = Answer::Json(200, json!([]));
    let (fake, _) = Fake::start(&osvm, [(VMS, vms), (LAUNCH, Answer::Lines(ready("NAME")))]);
    let ran = osvm.run(&["mcp", "microvm", "launch-many", "2", "--stop"]);
    assert!(ran.stdout.starts_with("2 ready, 0 failed, "), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("\nboot to reply    1224  1224  1224  1224\n"), "{}", ran.stdout);
    assert_eq!(stopped(&fake), ["many-1?id=0123abcd", "many-2?id=0123abcd"]);
}

/// In which order they are stopped is left open.
fn stopped(fake: &Fake) -> Vec<String> {
    let vm = |asked: &String| Some(asked.strip_prefix("DELETE /v1/vms/")?.to_owned());
    let mut stopped: Vec<_> = fake.asked().iter().filter_map(vm).collect();
    stopped.sort();
    stopped
}

#[test]
fn launch_many_stops_no_vm_that_another_run_has_launched() {
    let osvm = Osvm::new();
    let vms = Answer::Json(200, json!([]));
    let conflict = error("failed", "server many-2 already has VM 4567cdef, which is ready");
    let refused = vec![json!({ "event": "failed", "error": conflict })];
    let launches = Answer::LinesFor("many-2", refused, ready("NAME"));
    let (fake, _) = Fake::start(&osvm, [(VMS, vms), (LAUNCH, launches)]);
    let ran = osvm.run(&["mcp", "microvm", "launch-many", "3", "--stop"]);
    assert!(ran.stdout.starts_with("2 ready, 1 failed, "), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(stopped(&fake), ["many-1?id=0123abcd", "many-3?id=0123abcd"]);
}

#[test]
fn ctrl_c_stops_what_launch_many_has_launched_and_hangs_up_on_the_rest() {
    /// As many as are under way at a time, and the one that is asked for once one of these is ready.
    const ASKED: usize = 64 + 1;
    let osvm = Osvm::new();
    let vms = Answer::Json(200, json!([]));
    let one = Answer::SilenceBut("many-1", ready("NAME"));
    let (fake, news) = Fake::start(&osvm, [(VMS, vms), (LAUNCH, one)]);
    let child = piped(&osvm, &["mcp", "microvm", "launch-many", "100"]);
    assert_eq!(next(&news), VMS);
    assert!((0..ASKED).all(|_| next(&news) == LAUNCH));
    interrupt(&child);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert_eq!(stopped(&fake), ["many-1?id=0123abcd"]);
}

#[test]
fn status_is_a_table_or_json() {
    let osvm = Osvm::new();
    Fake::start(&osvm, [(VMS, Answer::Json(200, json!([vm("s")])))]);
    let table = osvm.ok(&["mcp", "microvm", "status"]);
    let told = "NAME  ID        STATE  VMM                MEMORY     USED    CPU      UPTIME  SESSIONS  CALLS\n\
                s     0123abcd  ready  qemu 7.2.0 (tcg)  512 MiB  100 MiB  1.2 s  1 min 15 s         1      3\n";
    assert_eq!(table, told);
    let memory = osvm.ok(&["mcp", "microvm", "status", "--memory"]);
    let told = "NAME  STATE    ASKED     USED  RESIDENT  SHARED  UNIQUE     LIMIT\n\
                s     ready  512 MiB  100 MiB   120 MiB  50 MiB  70 MiB  1024 MiB\n";
    assert_eq!(memory, told);
    assert_eq!(osvm.json(&["mcp", "microvm", "status", "--json"])[0]["pid"], 4242);
    let empty = Osvm::new();
    Fake::start(&empty, [(VMS, Answer::Json(200, json!([])))]);
    assert_eq!(empty.ok(&["mcp", "microvm", "status"]), "no VM is running\n");
}

#[test]
fn stop_ends_one_or_all_and_needs_to_know_which() {
    let osvm = Osvm::new();
    let one = ("DELETE /v1/vms/s", Answer::Json(200, vm("s")));
    let all = ("DELETE /v1/vms", Answer::Json(200, json!([vm("s"), vm("t")])));
    Fake::start(&osvm, [one, all]);
    assert_eq!(osvm.ok(&["mcp", "microvm", "stop", "s"]), "stopped s (0123abcd)\n");
    assert_eq!(osvm.ok(&["mcp", "microvm", "stop", "--all"]).lines().count(), 2);
    assert_eq!(osvm.run(&["mcp", "microvm", "stop", "unknown"]).code, 3);
    assert_eq!(osvm.run(&["mcp", "microvm", "stop"]).code, 2);
    assert_eq!(osvm.run(&["mcp", "microvm", "stop", "s", "--all"]).code, 2);
}

#[test]
fn logs_are_printed_as_they_are() {
    let osvm = Osvm::new();
    let log = "GET /v1/vms/s/logs?source=console&follow=true";
    Fake::start(&osvm, [(log, Answer::Text("one\r\ntwo\x1b[0m"))]);
    let text = osvm.ok(&["mcp", "microvm", "logs", "s", "-f", "--source", "console"]);
    assert_eq!(text, "one\r\ntwo\x1b[0m");
}

#[test]
fn lists_are_tables_or_the_servers_own_words() {
    let osvm = Osvm::new();
    let items = json!([{ "name": "add", "description": "Adds.", "inputSchema": {} }]);
    let list = Answer::Json(200, json!({ "items": items }));
    let (fake, _) = Fake::start(&osvm, [("POST /v1/servers/s/list", list)]);
    assert_eq!(osvm.ok(&["mcp", "tools", "s"]), "TOOL  DESCRIPTION\nadd   Adds.\n");
    assert_eq!(osvm.json(&["mcp", "tools", "s", "--json"]), items);
    assert_eq!(osvm.json(&["mcp", "prompts", "s", "--json"]), items);
    assert_eq!(fake.last_body()["what"], "prompts");
    let both = osvm.json(&["mcp", "resources", "s", "--json"]);
    assert_eq!(both, json!({ "resources": items, "resourceTemplates": items }));
}

/// Takes everything, says what it took on both streams, and fails with 3.
async fn command(mut stream: Stream) {
    let mut input = Vec::new();
    while let Some(ExecFrame::Stdin(bytes)) = ExecFrame::read(&mut stream).await.unwrap() {
        if bytes.is_empty() {
            break;
        }
        input.extend(bytes);
    }
    let exit = ExecExit { code: Some(3), signal: None, oom_killed: false };
    let said =
        [ExecFrame::Stdout(input), ExecFrame::Stderr(b"to stderr".to_vec()), ExecFrame::Exit(exit)];
    for frame in said {
        frame.write(&mut stream).await.unwrap();
    }
}

#[test]
fn exec_passes_streams_and_status_on() {
    let osvm = Osvm::new();
    let session = Answer::Upgrade(|stream| Box::pin(command(stream)));
    let (fake, _) = Fake::start(&osvm, [("POST /v1/vms/s/exec", session)]);
    let child = piped(&osvm, &["mcp", "microvm", "exec", "s", "--user", "0", "--", "cat", "-v"]);
    let ran = end(child, b"input\0");
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (3, "input\0", "to stderr"));
    assert_eq!(fake.last_body(), json!({ "argv": ["cat", "-v"], "user": "0" }));
}

async fn lost(stream: Stream) {
    drop(stream);
}

#[test]
fn a_command_whose_vm_is_lost_is_no_success() {
    let osvm = Osvm::new();
    let session = Answer::Upgrade(|stream| Box::pin(lost(stream)));
    Fake::start(&osvm, [("POST /v1/vms/s/exec", session)]);
    let ran = end(piped(&osvm, &["mcp", "microvm", "exec", "s", "--", "true"]), b"");
    assert_eq!(ran.code, 4, "{}", ran.stderr);
}

/// Returns what it is given; ends when its input has.
async fn echo(stream: Stream) {
    let (mut from, mut to) = tokio::io::split(stream);
    tokio::io::copy(&mut from, &mut to).await.unwrap();
    to.shutdown().await.unwrap();
}

#[test]
fn run_is_the_server_byte_for_byte_until_its_input_ends() {
    let osvm = Osvm::new();
    let session = Answer::Upgrade(|stream| Box::pin(echo(stream)));
    Fake::start(&osvm, [("POST /v1/servers/s/run", session)]);
    let ran = end(piped(&osvm, &["mcp", "run", "s"]), b"{\"jsonrpc\":\"2.0\"}\n\0\r\n");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(ran.stdout, "{\"jsonrpc\":\"2.0\"}\n\0\r\n");
}

/// Says one thing and goes, whatever it is told.
async fn leave(mut stream: Stream) {
    stream.write_all(b"bye").await.unwrap();
    let mut first = [0];
    let _ = stream.read(&mut first).await;
    stream.shutdown().await.unwrap();
}

#[test]
fn run_ends_when_the_server_ends_though_its_input_is_open() {
    let osvm = Osvm::new();
    let session = Answer::Upgrade(|stream| Box::pin(leave(stream)));
    Fake::start(&osvm, [("POST /v1/servers/s/run", session)]);
    let mut child = piped(&osvm, &["mcp", "run", "s"]);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"x").unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "bye"));
    drop(stdin);
}

#[test]
fn removing_a_server_tells_of_its_running_vm_and_no_other_gets_its_name_meanwhile() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "s"]);
    Fake::start(&osvm, [("GET /v1/vms/s", Answer::Json(200, vm("s")))]);
    let ran = osvm.run(&["mcp", "remove", "s"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "removed s\n"));
    let told = "warning: its VM goes on running; osvm mcp microvm stop s ends it\n";
    assert_eq!(ran.stderr, told);
    let ran = osvm.run(&["mcp", "add", "s"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("a VM that is called s is running"), "{}", ran.stderr);
}

#[test]
fn a_mistyped_name_that_got_the_demo_is_asked_about() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "weather"]);
    let mut demo = ready("NAME");
    demo[2]["vm"]["demo"] = json!(true);
    Fake::start(&osvm, [(LAUNCH, Answer::Lines(demo))]);
    let ran = osvm.run(&["mcp", "microvm", "launch", "wether"]);
    let told = "warning: wether runs the built-in demo server; did you mean weather?\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (0, told));
}
