//! What `status` shows is what is.

use crate::osvm::Osvm;

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
fn setup_and_doctor_agree_that_everything_is_there() {
    let osvm = Osvm::bare();
    osvm.ok(&["setup"]);
    let findings = osvm.json(&["doctor", "--json"]);
    assert!(!findings.to_string().contains("\"bad\""), "{findings}");
    assert!(osvm.home().join("kernel/vmlinux.bin").is_file());
    assert!(osvm.home().join("rootfs/mcp-server.cpio").is_file());
}
