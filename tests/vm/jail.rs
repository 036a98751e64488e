//! What stands between a VMM and the host, looked at from outside.

use std::fs;

use serde_json::{Value, json};

use crate::osvm::Osvm;

/// A field of a process's `/proc/PID/status`.
fn status(pid: &Value, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap_or_else(|| panic!("no {field} in {text}")).trim().to_owned()
}

#[test]
fn a_vmm_has_the_layers_that_status_tells_and_adoption_keeps_telling_them() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let vm = osvm.vm("demo");
    let jail = vm["jail"].as_array().unwrap();
    for layer in ["no_new_privs", "rlimits", "seccomp", "vmm_sandbox"] {
        assert!(jail.contains(&json!({"layer": layer, "state": "on"})), "{layer}: {jail:?}");
    }
    let pid = &vm["pid"];
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "Seccomp"), "2");
    assert!(status(pid, "Seccomp_filters").parse::<u32>().unwrap() >= 2, "ours and QEMU's own");
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(5), Some("0"), "{core}");
    osvm.crash_daemon();
    assert_eq!(osvm.vm("demo")["jail"], vm["jail"]);
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    osvm.assert_nothing_left();
}

#[test]
fn doctor_tells_each_layer() {
    let osvm = Osvm::new();
    let findings = osvm.json(&["doctor", "--json"]);
    let findings = findings.as_array().unwrap().iter().filter(|finding| finding["what"] == "jail");
    let told: Vec<_> = findings.map(|finding| finding["found"].to_string()).collect();
    assert!(told[0].contains("system call filter"), "{told:?}");
}
