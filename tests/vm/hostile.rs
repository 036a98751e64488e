//! What `osvm mcp microvm test` can't try by itself: a hostile server, root in its VM, against a daemon that is
//! killed, a client that does not read, and a status that must tell.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::osvm::{Osvm, eventually};

fn launch(osvm: &Osvm) {
    let command = "/usr/bin/osvm-demo hostile";
    let memory = ["--memory", "128"];
    let launch = ["mcp", "microvm", "launch", "bad", "--user", "root", "--command", command];
    osvm.ok(&[&launch[..], &memory[..]].concat());
}

fn attempt(osvm: &Osvm, tool: &str, arguments: &Value) {
    osvm.call("bad", tool, arguments);
}

fn logs(osvm: &Osvm) -> PathBuf {
    PathBuf::from(osvm.vm("bad")["run_dir"].as_str().unwrap()).join("logs")
}

/// What the daemon holds, in KiB.
fn resident(osvm: &Osvm) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", osvm.daemon_pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_guest_that_holds_its_agent_is_ended_by_the_next_daemon_which_serves_all_the_same() {
    let osvm = Osvm::new();
    launch(&osvm);
    osvm.ok(&["mcp", "microvm", "launch", "good"]);
    let console = logs(&osvm).join("console.log");
    attempt(&osvm, "usurp", &json!({ "how": "silence" }));
    eventually("the agent is frozen", || {
        fs::read_to_string(&console).unwrap_or_default().contains(r#""agent":"frozen""#)
    });
    osvm.crash_daemon();
    assert_eq!(osvm.call("good", "echo", &json!({ "text": "here" })).trim(), "here");
    let names: Vec<_> = osvm.vms().into_iter().map(|vm| vm["name"].clone()).collect();
    assert_eq!(names, ["good"]);
    osvm.ok(&["mcp", "microvm", "stop", "good"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_line_without_end_ends_its_server_with_the_cause_in_status_and_log_and_not_the_vm() {
    let osvm = Osvm::new();
    launch(&osvm);
    let (before, held) = (osvm.vm("bad"), resident(&osvm));
    attempt(&osvm, "flood", &json!({ "to": "stdout", "kind": "one line", "kib": 1 << 20 }));
    let mut most = 0;
    eventually("the fault is told", || {
        most = most.max(resident(&osvm));
        osvm.vm("bad")["fault"].is_string()
    });
    let after = osvm.vm("bad");
    let fault = after["fault"].as_str().unwrap();
    assert!(fault.contains("a line exceeds 67108864 bytes"), "{fault}");
    assert_eq!((&after["id"], &after["state"]), (&before["id"], &json!("ready")));
    let log = osvm.ok(&["mcp", "microvm", "logs", "bad", "--source", "agent"]);
    assert!(log.contains("a line exceeds 67108864 bytes"), "{log}");
    assert!(osvm.ok(&["mcp", "microvm", "status"]).contains("last fault"));
    assert!(most < held + (256 << 10), "{held} KiB became {most}");
    // Of the server that flooded nothing is left in the guest.
    let look = osvm.json(&["mcp", "call", "bad", "look", "--json"]);
    let processes = look["structuredContent"]["processes"].as_array().unwrap();
    let servers =
        processes.iter().filter(|process| process["command"].as_str().unwrap().contains("hostile"));
    assert_eq!(servers.count(), 1);
}

#[test]
fn a_client_that_does_not_read_stops_the_flood_and_not_the_daemon() {
    let osvm = Osvm::new();
    launch(&osvm);
    let held = resident(&osvm);
    let mut client = osvm.start(&["mcp", "run", "bad"]);
    let initialize = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": { "name": "deaf", "version": "1" },
        },
    });
    let initialized = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    let flood = json!({
        "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
            "name": "flood", "arguments": { "to": "stdout", "kind": "lines", "kib": 1 << 20 },
        },
    });
    let stdin = client.stdin.as_mut().unwrap();
    stdin.write_all(format!("{initialize}\n{initialized}\n{flood}\n").as_bytes()).unwrap();
    // Until nothing flows any more: what the processor of the VM did has come to rest.
    let mut last = -1.0;
    eventually("the server waits for its reader", || {
        std::thread::sleep(std::time::Duration::from_secs(1));
        let used = osvm.vm("bad")["cpu_seconds"].as_f64().unwrap();
        let rests = used - last < 0.1;
        last = used;
        rests && osvm.vm("bad")["sessions"] == 1
    });
    let holds = resident(&osvm);
    assert!(holds < held + (16 << 10), "{held} KiB became {holds}");
    assert_eq!(osvm.call("bad", "read", &json!({ "paths": [] })).trim(), "{}");
    client.kill().unwrap();
    client.wait().unwrap();
}
