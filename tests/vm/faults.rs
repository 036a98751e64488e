//! What goes wrong while VMs run.

use std::time::Duration;

use serde_json::json;

use crate::osvm::{Osvm, eventually, kill, wait};
use crate::small_disk::SmallDisk;

#[test]
fn a_vmm_that_is_killed_is_a_failed_vm_with_its_cause_and_the_next_call_starts_another() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    osvm.call("demo", "echo", &json!({"text": "up"}));
    let vm = osvm.vm("demo");
    kill(vm["pid"].as_i64().unwrap().try_into().unwrap());
    eventually("the VM has failed", || osvm.vm("demo")["state"] == "failed");
    let cause = osvm.vm("demo")["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains("ended by itself"), "{cause}");
    osvm.assert_nothing_left();
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "new"})).trim(), "new");
    assert_ne!(osvm.vm("demo")["id"], vm["id"]);
}

#[test]
fn a_call_whose_vmm_is_killed_fails_at_once() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let call = osvm.start(&["mcp", "call", "demo", "sleep", r#"{"ms":600000}"#]);
    eventually("the call has arrived", || osvm.vm("demo")["sessions"] == 1);
    kill(osvm.vm("demo")["pid"].as_i64().unwrap().try_into().unwrap());
    wait(call).expect(1);
}

#[test]
fn a_guest_out_of_memory_loses_the_server_and_not_the_vm() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "microvm", "launch", "demo", "--memory", "128"]);
    let before = osvm.vm("demo");
    osvm.run(&["mcp", "call", "demo", "allocate", r#"{"mib":4096,"keep":true}"#]).expect(1);
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "alive"})).trim(), "alive");
    let after = osvm.vm("demo");
    assert_eq!(before["id"], after["id"]);
    let agent = osvm.ok(&["mcp", "microvm", "logs", "demo", "--source", "agent"]);
    assert!(agent.contains("out of memory"), "{agent}");
}

#[test]
fn of_two_launches_of_one_name_exactly_one_wins() {
    let osvm = Osvm::new();
    osvm.daemon_pid();
    let launch = ["mcp", "microvm", "launch", "demo"];
    let children = [osvm.start(&launch), osvm.start(&launch)];
    let mut codes: Vec<_> = children.into_iter().map(|child| wait(child).code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [Some(0), Some(1)]);
    assert_eq!(osvm.vms().len(), 1);
}

#[test]
fn calls_that_come_while_a_vm_starts_share_it() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    osvm.daemon_pid();
    let call = ["mcp", "call", "demo", "echo", r#"{"text":"shared"}"#];
    let children: Vec<_> = (0..4).map(|_| osvm.start(&call)).collect();
    for child in children {
        assert_eq!(wait(child).expect(0).stdout.trim(), "shared");
    }
    assert_eq!(osvm.vms().len(), 1);
}

#[test]
fn stop_during_launch_ends_both() {
    let osvm = Osvm::new();
    osvm.daemon_pid();
    let launch = osvm.start(&["mcp", "microvm", "launch", "demo"]);
    eventually("the VM is booting", || osvm.vms().iter().any(|vm| vm["state"] == "booting"));
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    wait(launch).expect(1).says(&["stopped"]);
    osvm.assert_nothing_left();
}

#[test]
fn an_unused_vm_that_a_call_started_is_stopped_and_a_launched_one_is_not() {
    let osvm = Osvm::new().env("OSVM_IDLE_STOP_SECONDS", "2");
    osvm.ok(&["mcp", "add", "demo"]);
    osvm.ok(&["mcp", "microvm", "launch", "mine"]);
    osvm.call("demo", "echo", &json!({"text": "up"}));
    eventually("the unused VM is gone", || osvm.vms().iter().all(|vm| vm["name"] != "demo"));
    assert_eq!(osvm.vm("mine")["state"], "ready");
}

#[test]
fn a_runtime_directory_without_room_is_said_so() {
    let osvm = Osvm::new();
    let full = osvm.runtime().join("full");
    let Some(_disk) = SmallDisk::at(&full, "16k") else { return };
    std::fs::write(full.join("filler"), vec![0; 1 << 20]).unwrap_err();
    let mut command = osvm.command(&["mcp", "microvm", "launch", "demo"]);
    let output = command.env("OSVM_RUNTIME_DIR", &full).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let _ = osvm.command(&["daemon", "--stop"]).output();
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("No space left"), "{stderr}");
}

#[test]
fn logs_follow_a_vm_to_its_end() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let follow = osvm.start(&["mcp", "microvm", "logs", "demo", "--source", "agent", "-f"]);
    std::thread::sleep(Duration::from_millis(200));
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    let log = wait(follow).expect(0).stdout;
    assert!(log.contains("started"), "{log}");
    let kept = osvm.ok(&["mcp", "microvm", "logs", "demo", "--source", "console"]);
    assert!(kept.contains("osvm-guest: up"), "{kept}");
}
