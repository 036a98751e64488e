//! The daemon may end at any time; VMs, and the processes in them, go on.

use serde_json::{Value, json};

use crate::osvm::{Osvm, eventually, kill, wait};
use crate::rootfs::{MY_SERVER, Rootfs};

fn boot_id(osvm: &Osvm) -> Value {
    osvm.json(&["mcp", "call", "demo", "system_info", "--json"])["structuredContent"]["boot_id"]
        .clone()
}

#[test]
fn an_idle_daemon_that_is_killed_loses_neither_the_vm_nor_its_servers_memory() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    osvm.call("demo", "allocate", &json!({"mib": 16, "keep": true}));
    let (vm, boot) = (osvm.vm("demo"), boot_id(&osvm));
    osvm.crash_daemon();
    let again = osvm.vm("demo");
    assert_eq!((&again["id"], &again["pid"]), (&vm["id"], &vm["pid"]));
    assert_eq!(again["state"], "ready");
    assert_eq!(boot_id(&osvm), boot);
    let agent = osvm.ok(&["mcp", "microvm", "logs", "demo", "--source", "agent"]);
    assert!(agent.contains("adopted"), "{agent}");
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_daemon_that_ends_as_told_leaves_its_vms_to_the_next_one() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let vm = osvm.vm("demo");
    osvm.ok(&["daemon", "--stop"]);
    assert_eq!(osvm.vm("demo")["id"], vm["id"]);
}

#[test]
fn a_call_whose_daemon_is_killed_fails_and_the_next_one_works() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let id = osvm.vm("demo")["id"].clone();
    let call = osvm.start(&["mcp", "call", "demo", "sleep", r#"{"ms":30000}"#]);
    eventually("the call has arrived", || osvm.vm("demo")["sessions"] == 1);
    osvm.crash_daemon();
    wait(call).expect(1);
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "next"})).trim(), "next");
    assert_eq!(osvm.vm("demo")["id"], id);
}

#[test]
fn a_vm_of_one_call_ends_with_its_daemon() {
    let osvm = Osvm::with_config("[[servers]]\nid = \"demo\"\nisolation_mode = \"ephemeral\"\n");
    let call = osvm.start(&["mcp", "call", "demo", "sleep", r#"{"ms":30000}"#]);
    eventually("it is ready", || osvm.vms().iter().any(|vm| vm["state"] == "ready"));
    osvm.crash_daemon();
    wait(call).expect(1);
    assert_eq!(osvm.vms(), Vec::<Value>::new());
    osvm.assert_nothing_left();
}

#[test]
fn a_launch_whose_daemon_is_killed_leaves_nothing_once_the_next_daemon_has_started() {
    let osvm = Osvm::new();
    osvm.daemon_pid();
    let launch = osvm.start(&["mcp", "microvm", "launch", "demo"]);
    eventually("the VMM runs", || !osvm.vmm_processes().is_empty());
    osvm.crash_daemon();
    wait(launch).expect(1);
    assert_eq!(osvm.vms(), Vec::<Value>::new());
    osvm.assert_nothing_left();
}

#[test]
fn a_record_whose_pid_belongs_to_somebody_else_now_harms_nobody() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let vm = osvm.vm("demo");
    let pid = i32::try_from(vm["pid"].as_i64().unwrap()).unwrap();
    osvm.crash_daemon();
    crate::osvm::kill(pid);
    // Another process under the recorded pid: the record is made to say so.
    let mut other = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let record = std::path::PathBuf::from(vm["run_dir"].as_str().unwrap()).join("state.json");
    rewrite_pid(&record, pid, other.id());
    assert_eq!(osvm.vms(), Vec::<Value>::new());
    assert!(other.try_wait().unwrap().is_none(), "a stranger's process was ended");
    other.kill().unwrap();
    other.wait().unwrap();
    osvm.assert_nothing_left();
}

/// As a recycled pid looks: the right number, another start time. The checksum is kept right, so
/// that it is the process's identity that must tell.
fn rewrite_pid(record: &std::path::Path, old: i32, new: u32) {
    let text = std::fs::read_to_string(record).unwrap();
    let (head, vm) = text.split_once(r#""vm":"#).unwrap();
    let vm = vm
        .strip_suffix('}')
        .unwrap()
        .replace(&format!(r#""pid":{old}"#), &format!(r#""pid":{new}"#));
    let (before, _) = head.split_once(r#""checksum":"#).unwrap();
    let checksum = crc32fast::hash(vm.as_bytes());
    std::fs::write(record, format!(r#"{before}"checksum":{checksum},"vm":{vm}}}"#)).unwrap();
}

#[test]
fn a_stale_socket_is_replaced() {
    let osvm = Osvm::new();
    let socket = osvm.home().join("run/osvm.sock");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert_eq!(osvm.vms(), Vec::<Value>::new());
}

#[test]
fn run_directories_of_another_user_and_of_another_home_are_left_alone() {
    let osvm = Osvm::new();
    let foreign = osvm.runtime().join("microvm-0123456789abcdef");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("state.json"), "{}").unwrap();
    if rustix::process::getuid().is_root() {
        std::os::unix::fs::chown(&foreign, Some(65534), Some(65534)).unwrap();
    }
    assert_eq!(osvm.vms(), Vec::<Value>::new());
    assert!(foreign.join("state.json").exists());
    std::fs::remove_dir_all(foreign).unwrap();
}

#[test]
fn a_server_that_ended_while_no_daemon_looked_is_replaced_before_it_is_asked() {
    // Each call of its tool is its last but one second.
    let script =
        MY_SERVER.replace("*'\"tools/call\"'*)", "*'\"tools/call\"'*) (sleep 1; kill -9 $$) &");
    assert!(script.contains("kill -9"));
    let rootfs = Rootfs::with_server(&script);
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "brief", "--image", rootfs.text(), "--command", "/bin/server"]);
    osvm.ok(&["mcp", "call", "brief", "my-tool", "{}"]);
    let daemon = rustix::process::Pid::from_raw(osvm.daemon_pid()).unwrap();
    rustix::process::kill_process(daemon, rustix::process::Signal::STOP).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    kill(daemon.as_raw_nonzero().get());
    eventually("a later daemon takes the VM back", || {
        osvm.run(&["mcp", "microvm", "status"]).code == Some(0)
    });
    osvm.ok(&["mcp", "call", "brief", "my-tool", "{}"]);
}
