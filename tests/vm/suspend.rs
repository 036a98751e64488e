//! Suspended VMs: on disk as they were, and woken by whoever wants something of them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use serde_json::{Value, json};

use crate::osvm::{Osvm, eventually, kill, wait};
use crate::run::{INITIALIZE, READY, answers, call, say};

const BOOTED: &str = "[microvm]\ntemplate = \"booted\"\ndefault_memory_mb = 128\n\
                      [[servers]]\nid = \"demo\"\n";

fn state(osvm: &Osvm) -> Value {
    osvm.vm("demo")["state"].clone()
}

fn suspend(osvm: &Osvm) {
    osvm.ok(&["mcp", "microvm", "suspend", "demo"]);
    let vm = osvm.vm("demo");
    assert_eq!((&vm["state"], &vm["pid"]), (&json!("suspended"), &Value::Null));
    assert!(osvm.vmm_processes().is_empty());
}

/// What is on disk.
fn beds(osvm: &Osvm) -> Vec<PathBuf> {
    let beds = fs::read_dir(osvm.home().join("suspended")).into_iter().flatten().flatten();
    beds.map(|bed| bed.path()).collect()
}

fn read(osvm: &Osvm, path: &str) -> String {
    osvm.call("demo", "read_file", &json!({ "path": path }))
}

/// Of the server's process: who it is, and when it was started since its guest's boot.
fn process(stat: &str) -> (String, String) {
    let fields: Vec<_> = stat.split_whitespace().collect();
    (fields[0].to_owned(), fields[21].to_owned())
}

/// What tells one machine from another, and one run of its kernel and of its server from the next.
fn identity(osvm: &Osvm) -> (String, String, (String, String)) {
    let boot = read(osvm, "/proc/sys/kernel/random/boot_id");
    (boot, read(osvm, "/etc/machine-id"), process(&read(osvm, "/proc/self/stat")))
}

/// By the guest's clock, in seconds since 1970.
fn now(osvm: &Osvm) -> u64 {
    let stat = read(osvm, "/proc/stat");
    let boot = stat.lines().find_map(|line| line.strip_prefix("btime ")).unwrap();
    let uptime = read(osvm, "/proc/uptime");
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    boot.trim().parse::<u64>().unwrap() + uptime as u64
}

/// A client that has begun its conversation, and what it is answered from then on.
fn connected(osvm: &Osvm) -> (Child, impl FnMut() -> Value + use<>) {
    let mut client = osvm.start(&["mcp", "run", "demo"]);
    let mut answer = answers(&mut client);
    say(&mut client, INITIALIZE);
    assert_eq!(answer()["id"], 0);
    say(&mut client, READY);
    (client, answer)
}

/// A command that suspends the VM, and is about to.
fn suspends(osvm: &Osvm) -> Child {
    let suspends = osvm.start(&["mcp", "microvm", "suspend", "demo"]);
    eventually("it has begun", || !beds(osvm).is_empty() || state(osvm) == "suspended");
    suspends
}

#[test]
fn a_vm_that_was_suspended_goes_on_as_it_was_as_often_as_it_is() {
    let osvm = Osvm::with_config(BOOTED);
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let before = (identity(&osvm), osvm.vm("demo")["id"].clone());
    osvm.call("demo", "write_file", &json!({ "path": "/tmp/note", "content": "kept" }));
    for round in 1..=2 {
        suspend(&osvm);
        let beds = beds(&osvm);
        let mode = fs::metadata(&beds[0]).unwrap().permissions().mode();
        assert_eq!((beds.len(), mode & 0o777), (1, 0o700));
        assert_eq!((identity(&osvm), osvm.vm("demo")["id"].clone()), before, "round {round}");
        assert_eq!(read(&osvm, "/tmp/note").trim(), "kept");
        assert!(self::beds(&osvm).is_empty(), "what was on disk is gone");
        let hosts = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(now(&osvm).abs_diff(hosts) < 60, "{} is not {hosts}", now(&osvm));
    }
    suspend(&osvm);
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    assert!(beds(&osvm).is_empty());
    osvm.assert_nothing_left();
}

#[test]
fn a_client_that_is_connected_notices_nothing_but_a_delay() {
    let osvm = Osvm::with_config(BOOTED).env("OSVM_IDLE_SUSPEND_SECONDS", "1");
    let (mut client, mut answer) = connected(&osvm);
    let mut processes = Vec::new();
    for id in 1..=3 {
        say(&mut client, &call(id, "read_file", &json!({ "path": "/proc/self/stat" })));
        let told = answer();
        assert_eq!(told["id"], id);
        processes.push(process(told["result"]["content"][0]["text"].as_str().unwrap()));
        eventually("it is suspended by itself", || state(&osvm) == "suspended");
        assert_eq!(osvm.vm("demo")["sessions"], 1, "the client is still there");
    }
    assert!(processes.iter().all(|process| *process == processes[0]), "{processes:?}");
    // Nor does one that leaves meanwhile have it woken.
    drop(client.stdin.take());
    assert_eq!(wait(client).code, Some(0));
    assert_eq!(state(&osvm), "suspended");
}

#[test]
fn a_call_that_takes_long_is_not_cut_by_the_vms_being_idle() {
    let osvm = Osvm::with_config(BOOTED).env("OSVM_IDLE_SUSPEND_SECONDS", "1");
    let (mut client, mut answer) = connected(&osvm);
    say(&mut client, &call(1, "sleep", &json!({ "ms": 6000 })));
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        assert_eq!(state(&osvm), "ready");
        std::thread::sleep(Duration::from_millis(250));
    }
    assert_eq!(answer()["id"], 1);
    eventually("it is suspended", || state(&osvm) == "suspended");
}

#[test]
fn a_later_daemon_wakes_what_an_earlier_one_has_suspended() {
    let osvm = Osvm::with_config(BOOTED);
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let before = identity(&osvm);
    suspend(&osvm);
    osvm.crash_daemon();
    assert_eq!(state(&osvm), "suspended");
    assert_eq!(identity(&osvm), before, "the server's process is the same");
    let log = osvm.ok(&["mcp", "microvm", "logs", "demo", "--source", "agent"]);
    assert!(log.contains("adopted by a new daemon, suspended"), "{log}");
}

#[test]
fn a_vm_whose_daemon_is_killed_while_it_suspends_it_is_lost_by_nobody() {
    let osvm = Osvm::with_config(BOOTED);
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let before = identity(&osvm);
    // At another moment each time: before there is anything on disk, while it is written, and after that.
    for wait_ms in [0, 30, 80, 150, 300] {
        let suspends = suspends(&osvm);
        std::thread::sleep(Duration::from_millis(wait_ms));
        osvm.crash_daemon();
        wait(suspends);
        assert_eq!(identity(&osvm), before, "killed after {wait_ms} ms");
        let vms = osvm.vmm_processes().len();
        assert_eq!((state(&osvm), vms), (json!("ready"), 1));
    }
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_vmm_that_is_killed_while_it_is_suspended_or_woken_takes_nothing_else_along() {
    let osvm = Osvm::with_config(BOOTED);
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let before = identity(&osvm);
    suspend(&osvm);
    // Killed before it is awake, it is still on disk.
    let called = osvm.start(&["mcp", "call", "demo", "echo", r#"{"text":"x"}"#]);
    eventually("it is being woken", || !osvm.vmm_processes().is_empty());
    osvm.vmm_processes().into_iter().for_each(kill);
    wait(called);
    eventually("it is woken", || {
        osvm.run(&["mcp", "call", "demo", "echo", r#"{"text":"x"}"#]).code == Some(0)
    });
    assert_eq!(identity(&osvm), before);
    // Killed while it is suspended, it is gone, and the next call has another.
    let suspends = suspends(&osvm);
    osvm.vmm_processes().into_iter().for_each(kill);
    wait(suspends);
    osvm.ok(&["mcp", "call", "demo", "echo", r#"{"text":"x"}"#]);
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    assert!(beds(&osvm).is_empty());
    osvm.assert_nothing_left();
}

#[test]
fn a_state_that_is_cut_off_is_an_error_and_the_next_call_has_another_vm() {
    let osvm = Osvm::with_config(BOOTED);
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let id = osvm.vm("demo")["id"].clone();
    suspend(&osvm);
    // Of what is the VM's own: the template's files are those of others, too.
    let files = fs::read_dir(&beds(&osvm)[0]).unwrap().flatten();
    for file in files.filter(|file| file.path().is_file()) {
        let file = fs::File::options().write(true).open(file.path()).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    }
    let call = ["mcp", "call", "demo", "echo", r#"{"text":"x"}"#];
    osvm.run(&call).expect(4).says(&["wake the guest"]);
    let mut tries = 0;
    eventually("it is given up", || {
        tries += 1;
        osvm.run(&call).code == Some(0)
    });
    assert!(tries < 6 && osvm.vm("demo")["id"] != id);
}

/// Bytes that a file takes on disk.
fn taken(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

/// The folder of the only template.
fn template(osvm: &Osvm) -> PathBuf {
    let mut all = fs::read_dir(osvm.home().join("templates")).unwrap().flatten();
    all.next().unwrap().path()
}

#[test]
fn on_disk_is_what_a_vm_has_beyond_its_template_which_may_go_meanwhile() {
    let osvm = Osvm::with_config(BOOTED);
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let before = identity(&osvm);
    for round in 1..=3 {
        suspend(&osvm);
        let bed = beds(&osvm).remove(0);
        let files = fs::read_dir(&bed).unwrap().flatten().map(|file| file.path());
        let own: u64 = files.filter(|file| file.is_file()).map(|file| taken(&file)).sum();
        let common = taken(&bed.join("template/memory"));
        assert!(own < common, "{own} bytes beside the {common} of the template's memory");
        match round {
            // As other VMs of that key come and go.
            1 => assert_eq!(identity(&osvm), before),
            // By whom it was suspended, and that there is a template, a later daemon does not know.
            2 => {
                fs::remove_dir_all(template(&osvm)).unwrap();
                osvm.crash_daemon();
                assert_eq!(identity(&osvm), before, "the template is gone");
                osvm.ok(&["mcp", "microvm", "launch-many", "1", "--stop"]);
            }
            _ => assert_eq!(identity(&osvm), before, "the template is another"),
        }
    }
}

#[test]
fn a_template_that_was_damaged_while_its_vm_was_suspended_is_not_trusted() {
    let osvm = Osvm::with_config(BOOTED);
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    suspend(&osvm);
    let memory = fs::File::options().write(true).open(template(&osvm).join("memory")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&memory, b"?", 1 << 20).unwrap();
    let call = ["mcp", "call", "demo", "echo", r#"{"text":"x"}"#];
    osvm.run(&call).expect(4).says(&["the template in", "not as they were written"]);
    eventually("it is given up", || osvm.run(&call).code == Some(0));
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    assert!(beds(&osvm).is_empty());
}

#[test]
fn a_vm_with_secrets_reaches_no_disk() {
    let osvm = Osvm::with_config(&format!("{BOOTED}secrets = [\"TOKEN\"]\n"))
        .env("TOKEN", "hunter2-is-not-to-be-written")
        .env("OSVM_IDLE_SUSPEND_SECONDS", "1");
    osvm.call("demo", "echo", &json!({ "text": "x" }));
    let said = osvm.run(&["mcp", "microvm", "suspend", "demo"]).expect(6);
    said.says(&["demo", "secrets", "hint"]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(state(&osvm), "ready");
    assert!(beds(&osvm).is_empty());
}
