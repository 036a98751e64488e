//! Servers that are no MCP servers, or bad ones: said so, and nothing left.

use crate::osvm::{Ended, Osvm, patience};
use crate::rootfs::{MY_SERVER, Rootfs};

fn launch(osvm: &Osvm, script: &str, command: &str) -> Ended {
    let rootfs = Rootfs::with_server(script);
    let args =
        ["mcp", "microvm", "launch", "trial", "--image", rootfs.text(), "--command", command];
    osvm.run(&args)
}

#[test]
fn a_command_that_is_not_in_the_image_is_named_with_a_hint() {
    let osvm = Osvm::new();
    launch(&osvm, "", "cargo run --bin mcp-server").expect(1).says(&[
        "cargo",
        "not found",
        "hint",
        "--image",
    ]);
    osvm.assert_nothing_left();
}

#[test]
fn a_script_whose_interpreter_is_missing_is_told_from_a_missing_file() {
    let osvm = Osvm::new();
    let rootfs = Rootfs::with_server("");
    std::fs::write(rootfs.path().join("bin/server"), "#!/usr/bin/python3\n").unwrap();
    let args =
        ["mcp", "microvm", "launch", "trial", "--image", rootfs.text(), "--command", "/bin/server"];
    osvm.run(&args).expect(1).says(&["/usr/bin/python3", "/bin/server"]);
}

#[test]
fn a_server_that_exits_at_once_is_told_by_its_status_and_last_words() {
    let osvm = Osvm::new();
    launch(&osvm, "echo cannot find my settings >&2; exit 3", "/bin/server").expect(1).says(&[
        "3",
        "cannot find my settings",
        "hint",
        "logs",
    ]);
    osvm.assert_nothing_left();
    let words = osvm.ok(&["mcp", "microvm", "logs", "trial"]);
    assert!(words.contains("cannot find my settings"), "{words}");
}

#[test]
fn garbage_before_the_first_answer_is_passed_over() {
    let osvm = Osvm::new();
    let script = format!("echo starting up...; echo '{{not json'; echo; {MY_SERVER}");
    launch(&osvm, &script, "/bin/server").expect(0);
}

#[test]
fn a_server_that_never_answers_is_given_up_at_the_deadline() {
    let within = patience().as_secs() / 6;
    let config = format!("[microvm]\nlaunch_timeout_seconds = {within}\n");
    let osvm = Osvm::with_config(&config);
    launch(&osvm, "exec sleep 1000", "/bin/server").expect(7).says(&["initialize"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_flood_of_standard_error_fills_neither_memory_nor_disk_and_does_not_stop_the_server() {
    let osvm = Osvm::new();
    let script =
        format!("(yes 'a line that nobody wants to read' | head -c 60000000 >&2) & {MY_SERVER}");
    launch(&osvm, &script, "/bin/server").expect(0);
    let answer = osvm.ok(&["mcp", "call", "trial", "my-tool", r#"{"x":1}"#]);
    assert_eq!(answer.trim(), r#"{"x":1}"#);
    let logs = std::path::PathBuf::from(osvm.vm("trial")["run_dir"].as_str().unwrap()).join("logs");
    let size: u64 = std::fs::read_dir(logs)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(size < 32 << 20, "{size} bytes of logs");
}

#[test]
fn the_server_runs_as_an_unprivileged_user_unless_told_otherwise() {
    let osvm = Osvm::new();
    let rootfs = Rootfs::with_server(MY_SERVER);
    osvm.ok(&[
        "mcp",
        "microvm",
        "launch",
        "trial",
        "--image",
        rootfs.text(),
        "--command",
        "/bin/server",
    ]);
    assert_ne!(osvm.ok(&["mcp", "microvm", "exec", "trial", "--", "id", "-u"]).trim(), "0");
}

#[test]
fn exec_passes_streams_and_the_exit_status() {
    let osvm = Osvm::new();
    let rootfs = Rootfs::with_server(MY_SERVER);
    osvm.ok(&[
        "mcp",
        "microvm",
        "launch",
        "trial",
        "--image",
        rootfs.text(),
        "--command",
        "/bin/server",
    ]);
    let exec = |script: &str, stdin: &[u8]| {
        osvm.run_with(&["mcp", "microvm", "exec", "trial", "--", "sh", "-c", script], stdin)
    };
    let ended = exec("cat; echo to-stderr >&2; exit 7", b"from stdin");
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(7), "from stdin"));
    assert!(ended.stderr.contains("to-stderr"), "{ended:?}");
    let missing = osvm.run(&["mcp", "microvm", "exec", "trial", "--", "no-such-program"]);
    missing.expect(1).says(&["no-such-program"]);
    osvm.run(&["mcp", "microvm", "exec", "nobody", "--", "id"]).expect(3);
}
