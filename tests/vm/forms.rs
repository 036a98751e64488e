//! The command forms that are promised to existing users, literally, one process after another.

use std::fs;

use crate::osvm::Osvm;
use crate::rootfs::{MY_SERVER, Rootfs};

#[test]
fn the_promised_forms_work_one_after_another() {
    let osvm = Osvm::new();
    let rootfs = Rootfs::with_server(MY_SERVER);

    osvm.ok(&["mcp", "add", "my-server", "--url", "stdio", "--isolation", "microvm"]);
    let config = osvm.home().join("isolation_config.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("my-server"), "{text}");
    // The form says nothing of what the server is: that stands in the file.
    osvm.ok(&["mcp", "remove", "my-server"]);
    let (image, command) = (rootfs.text(), "/bin/server");
    osvm.ok(&[
        "mcp",
        "add",
        "my-server",
        "--url",
        "stdio",
        "--isolation",
        "microvm",
        "--image",
        image,
        "--command",
        command,
    ]);

    osvm.ok(&["mcp", "microvm", "launch", "my-server", "--memory", "512", "--vcpus", "2"]);
    let vm = osvm.vm("my-server");
    assert_eq!(vm["memory_mib"], 512);
    assert_eq!(vm["vcpus"], 2);
    assert_eq!(vm["state"], "ready");

    let answer = osvm.ok(&["mcp", "call", "my-server", "my-tool", r#"{"param":"value"}"#]);
    assert_eq!(answer.trim(), r#"{"param":"value"}"#);

    let table = osvm.ok(&["mcp", "microvm", "status"]);
    assert!(table.contains("my-server") && table.contains("ready"), "{table}");
    osvm.ok(&["mcp", "microvm", "stop", "my-server"]);

    osvm.ok(&[
        "mcp",
        "microvm",
        "launch",
        "other",
        "--image",
        image,
        "--command",
        "/bin/sh /bin/server",
    ]);
    osvm.ok(&["mcp", "microvm", "stop", "other"]);
    osvm.ok(&["mcp", "microvm", "launch-many", "3", "--memory", "128"]);
    assert_eq!(osvm.vms().len(), 3);
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
    osvm.assert_nothing_left();
}

#[test]
fn the_test_command_proves_isolation() {
    let osvm = Osvm::new();
    let report = osvm.json(&["mcp", "microvm", "test", "--json"]);
    let checks = report["checks"].as_array().unwrap();
    let groups: std::collections::BTreeSet<_> =
        checks.iter().map(|check| check["group"].as_str().unwrap()).collect();
    assert_eq!(groups.len(), 6, "{groups:?}");
    assert!(checks.iter().all(|check| check["passed"] == true && check["evidence"] != ""));
    osvm.assert_nothing_left();
}

#[test]
fn launch_many_prints_a_latency_table_and_stops_its_vms_when_asked() {
    let osvm = Osvm::new();
    let summary =
        osvm.json(&["mcp", "microvm", "launch-many", "2", "--memory", "128", "--stop", "--json"]);
    let text = summary.to_string();
    for figure in ["p50", "p90", "p99", "max"] {
        assert!(text.contains(figure), "{text}");
    }
    osvm.assert_nothing_left();
}

#[test]
fn a_name_of_osvms_own_is_the_users_as_soon_as_it_is_registered_and_nothing_runs_in_its_place() {
    let osvm = Osvm::new();
    let root = Rootfs::with_server(MY_SERVER);
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let add = ["mcp", "add", "demo", "--image", root.text(), "--", "/bin/server"];
    osvm.run(&add).expect(1).says(&["a VM that is called demo is running", "microvm stop demo"]);
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    osvm.ok(&add);
    assert!(osvm.ok(&["mcp", "tools", "demo"]).contains("my-tool"));

    osvm.ok(&["mcp", "add", "many-1", "--image", root.text(), "--", "/bin/server"]);
    osvm.ok(&["mcp", "microvm", "launch-many", "1", "--memory", "128"]);
    let names: Vec<_> = osvm.vms().iter().map(|vm| vm["name"].clone()).collect();
    assert_eq!(names, ["demo", "many-2"]);
}
