//! The answer comes from another machine: what a tool sees of its surroundings.

use std::fs;

use serde_json::Value;

use crate::osvm::Osvm;

#[test]
fn a_tool_sees_another_kernel_no_network_no_host_files_and_no_user_data_on_the_command_line() {
    let osvm =
        Osvm::with_config("[[servers]]\nid = \"demo\"\nenv = { PLANTED = \"c0ffee-secret\" }\n");
    let answer = osvm.json(&["mcp", "call", "demo", "system_info", "--json"]);
    let info = &answer["structuredContent"];
    let host_boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert_ne!(info["boot_id"].as_str().unwrap(), host_boot.trim());
    let host_kernel = rustix::system::uname();
    assert_ne!(info["kernel_version"].as_str().unwrap(), host_kernel.version().to_str().unwrap());
    assert_eq!(info["interfaces"], serde_json::json!(["lo"]));
    assert_ne!(info["user"]["uid"], 0);
    assert_eq!(info["hostname"], "demo");
    let line = info["kernel_command_line"].as_str().unwrap();
    for secret in ["c0ffee", "demo", osvm.home().to_str().unwrap()] {
        assert!(!line.contains(secret), "{secret} is in {line}");
    }
    let mounts = info["mounts"].as_array().unwrap();
    let sources: Vec<_> = mounts.iter().filter_map(|mount| mount["source"].as_str()).collect();
    assert!(!sources.iter().any(|source| source.starts_with("/dev/vdb")), "{sources:?}");
    let passed = osvm.ok(&["mcp", "call", "demo", "env", r#"{"name":"PLANTED"}"#]);
    assert_eq!(passed.trim(), "c0ffee-secret");
}

#[test]
fn the_callers_environment_does_not_reach_the_server() {
    let osvm = Osvm::new().env("HOST_SECRET", "mine");
    osvm.ok(&["mcp", "add", "demo"]);
    let ended = osvm.run(&["mcp", "call", "demo", "env", r#"{"name":"HOST_SECRET"}"#]);
    assert!(!ended.stdout.contains("mine"), "{ended:?}");
}

#[test]
fn a_vm_with_several_processors_sees_them() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "microvm", "launch", "demo", "--vcpus", "2"]);
    let info = osvm.json(&["mcp", "call", "demo", "system_info", "--json"]);
    assert_eq!(info["structuredContent"]["cpus"], Value::from(2));
}
