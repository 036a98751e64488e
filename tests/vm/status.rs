//! What `status` shows is what is.

use std::path::Path;

use serde_json::{Value, json};

use crate::osvm::{Osvm, eventually};

#[test]
fn status_shows_size_use_and_identity() {
    let osvm = Osvm::new();
    assert!(osvm.vms().is_empty());
    osvm.ok(&["mcp", "microvm", "launch", "demo", "--memory", "128"]);
    let vm = osvm.vm("demo");
    assert_eq!(vm["started_by"], "user");
    assert_eq!(vm["demo"], true);
    assert_eq!(vm["memory_mib"], 128);
    let used = vm["memory_used_bytes"].as_u64().unwrap();
    assert!((8 << 20..512 << 20).contains(&used), "{used} bytes");
    assert!(vm["cpu_seconds"].as_f64().unwrap() > 0.0);
    assert!(
        vm["timings"]["ready_ms"].as_u64().unwrap() >= vm["timings"]["agent_ms"].as_u64().unwrap()
    );
    assert_eq!(vm["server"]["name"], "osvm-demo");
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    assert!(osvm.vms().is_empty());
}

#[test]
fn clones_share_memory_and_status_and_launch_many_tell_how_much_is_whose() {
    let osvm = Osvm::with_config("[microvm]\ntemplate = \"booted\"\n");
    let launched = osvm.json(&["mcp", "microvm", "launch-many", "3", "--memory", "128", "--json"]);
    let bytes = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("{value} in {launched}"));
    assert_eq!((bytes(&launched["ready"]), bytes(&launched["clones"])), (3, 3), "{launched}");
    let vms = osvm.vms();
    for vm in &vms {
        let [used, resident, shared, unique, limit] =
            ["used", "resident", "shared", "unique", "limit"]
                .map(|name| bytes(&vm[format!("memory_{name}_bytes")]));
        assert!(0 < unique && unique < used && used < resident && resident < limit, "{vm}");
        assert!((shared + unique).abs_diff(resident) < 1 << 20, "{vm}");
        assert!(used - unique < shared, "each has but a part of what they share: {vm}");
    }
    let memory = &launched["memory"];
    let [p50, max] = ["p50", "max"].map(|rank| bytes(&memory["unique"][rank]));
    let largest = vms.iter().map(|vm| bytes(&vm["memory_resident_bytes"])).max().unwrap();
    assert!(p50 <= max && p50 < bytes(&memory["each"]) && max < largest, "{launched}");
    let table = osvm.ok(&["mcp", "microvm", "status", "--memory"]);
    let heads = ["ASKED", "USED", "RESIDENT", "SHARED", "UNIQUE", "LIMIT"];
    assert!(heads.iter().all(|head| table.contains(head)), "{table}");
}

#[test]
fn setup_and_doctor_agree_that_everything_is_there() {
    let osvm = Osvm::bare();
    osvm.ok(&["setup"]);
    let findings = osvm.json(&["doctor", "--json"]);
    assert!(!findings.to_string().contains("\"bad\""), "{findings}");
    assert!(osvm.home().join("kernel/vmlinux.bin").is_file());
    assert!(osvm.home().join("rootfs/mcp-server.cpio").is_file());
}

#[test]
#[ignore = "needs Firecracker: make test-lab"]
fn memory_that_a_guest_has_freed_goes_back_to_the_host() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let used = || osvm.vm("demo")["memory_used_bytes"].as_u64().unwrap();
    let before = used();
    osvm.call("demo", "allocate", &json!({"mib": 128, "keep": false}));
    eventually("the host has most of it again", || used() < before + (64 << 20));
    let id = osvm.vm("demo")["id"].as_str().unwrap().to_owned();
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    let metrics = osvm.home().join("logs/demo").join(id).join("metrics.log");
    assert!(freed(&metrics) >= 64 << 20, "{} bytes were reported as freed", freed(&metrics));
}

/// Bytes that were given back, of all lines of metrics together.
fn freed(metrics: &Path) -> u64 {
    let text = std::fs::read_to_string(metrics).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line["balloon"]["free_page_report_freed"].as_u64()).sum()
}
