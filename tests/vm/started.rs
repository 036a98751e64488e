//! Servers that wait in a template: each clone speaks to its own copy, and none waits that is given something later.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::osvm::Osvm;
use crate::rootfs::{MY_SERVER, Rootfs, fixture};
use crate::templates::many;

const STARTED: &str = "[[servers]]\nid = \"demo\"\ntemplate = \"started\"\n";

fn folders(osvm: &Osvm) -> Vec<PathBuf> {
    let found = fs::read_dir(osvm.home().join("templates")).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

fn templates(osvm: &Osvm) -> usize {
    folders(osvm).len()
}

fn read(osvm: &Osvm, name: &str, path: &str) -> String {
    osvm.call(name, "read_file", &json!({"path": path}))
}

/// Of the server's process: who it is, and when it was started since its guest's boot.
fn process(osvm: &Osvm, name: &str) -> (String, String) {
    let stat = read(osvm, name, "/proc/self/stat");
    let fields: Vec<_> = stat.split_whitespace().collect();
    (fields[0].to_owned(), fields[21].to_owned())
}

#[test]
fn clones_speak_to_copies_of_one_process_that_have_no_state_in_common_from_then_on() {
    let osvm = Osvm::new();
    let count = many(3);
    let number = count.to_string();
    let launch = ["mcp", "microvm", "launch-many", &number, "--memory", "128"];
    osvm.ok(&[&launch[..], &["--template", "started"]].concat());
    assert_eq!(templates(&osvm), 1);
    let vms = osvm.vms();
    let names: Vec<_> = vms.iter().map(|vm| vm["name"].as_str().unwrap()).collect();
    assert!(names.len() == count && vms.iter().all(|vm| vm["cloned"] == true), "{vms:#?}");
    let processes: BTreeSet<_> = names.iter().map(|name| process(&osvm, name)).collect();
    assert_eq!(processes.len(), 1, "it was started once: {processes:?}");
    let draw = |name: &&str| read(&osvm, name, "/proc/sys/kernel/random/uuid");
    let drawn: BTreeSet<_> = names.iter().map(draw).collect();
    assert_eq!(drawn.len(), count, "the kernel's randomness is each one's own: {drawn:?}");
    let note = json!({"path": "/tmp/note", "content": "of the first"});
    osvm.call(names[0], "write_file", &note);
    osvm.run(&["mcp", "call", names[1], "read_file", r#"{"path":"/tmp/note"}"#]).expect(5);
    for name in &names {
        assert_eq!(read(&osvm, name, "/proc/sys/kernel/hostname").trim(), *name);
    }
    osvm.ok(&["mcp", "microvm", "stop", names[0]]);
    assert_eq!(osvm.call(names[1], "echo", &json!({"text": "still here"})).trim(), "still here");
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
    osvm.assert_nothing_left();
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Reads the boot id as it starts, and answers each call with the one that there is by then.
fn reads_boot_id() -> Rootfs {
    let reads = format!("cat {BOOT_ID} >/tmp/boot_id\nprintf() {{ cat {BOOT_ID}; }}\n");
    Rootfs::with_server(&format!("{reads}{MY_SERVER}"))
}

fn cat(osvm: &Osvm, name: &str, path: &str) -> String {
    osvm.ok(&["mcp", "microvm", "exec", name, "--", "cat", path]).trim().to_owned()
}

#[test]
fn a_boot_id_that_was_read_before_the_template_was_saved_is_no_clones() {
    let root = reads_boot_id();
    let osvm = Osvm::new();
    let mut read_before = BTreeSet::new();
    let mut boots = BTreeSet::new();
    for name in ["one", "two"] {
        let launch = ["mcp", "microvm", "launch", name, "--memory", "128", "--json"];
        let server = ["--image", root.text(), "--command", "/bin/server"];
        let vm = osvm.json(&[&launch[..], &server, &["--template", "started"]].concat());
        assert_eq!(vm["cloned"], true, "{vm}");
        read_before.insert(cat(&osvm, name, "/tmp/boot_id"));
        let boot = cat(&osvm, name, BOOT_ID);
        assert_eq!(boot.len(), 36, "{boot}");
        let tool = osvm.call(name, "my-tool", &json!({}));
        assert_eq!(tool.trim(), boot, "the process that has waited sees it too");
        boots.insert(boot);
    }
    assert_eq!(read_before.len(), 1, "it waits in one template: {read_before:?}");
    assert!(boots.len() == 2 && boots.is_disjoint(&read_before), "{boots:?} {read_before:?}");
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
    osvm.assert_nothing_left();
}

#[test]
fn only_the_first_process_of_a_vm_has_waited_and_a_new_daemon_goes_on_with_it() {
    let osvm = Osvm::with_config(STARTED);
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let waited = process(&osvm, "demo");
    osvm.crash_daemon();
    assert_eq!(process(&osvm, "demo"), waited);
    osvm.run(&["mcp", "call", "demo", "exit", r#"{"code":3}"#]).expect(1);
    assert_ne!(process(&osvm, "demo"), waited, "it was started anew");
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    assert_eq!(process(&osvm, "demo"), waited, "it begins as the first did");
    osvm.ok(&["mcp", "microvm", "launch", "other", "--template", "started", "--env", "A=b"]);
    assert_eq!(osvm.call("other", "env", &json!({"name": "A"})).trim(), "b");
    assert_eq!(templates(&osvm), 2, "another environment is another process");
}

#[test]
fn a_server_of_node_waits_and_each_clone_has_the_log_of_its_start() {
    let root = fixture("everything");
    let osvm = Osvm::stocked(&root);
    // Node takes its time under emulation, on a busy machine many times as long.
    osvm.write_config("[microvm]\nlaunch_timeout_seconds = 300\n");
    let program = "/app/node_modules/@modelcontextprotocol/server-everything/dist/index.js";
    let command = format!("/usr/bin/node {program} stdio");
    let image = root.to_str().unwrap();
    for name in ["one", "two"] {
        let launch = ["mcp", "microvm", "launch", name, "--memory", "512", "--json"];
        let what = ["--image", image, "--command", &command, "--template", "started"];
        let vm: Value = osvm.json(&[&launch[..], &what].concat());
        assert_eq!(vm["cloned"], true, "{vm}");
        assert_eq!(vm["server"]["name"], "mcp-servers/everything", "{vm}");
        let log = osvm.ok(&["mcp", "microvm", "logs", name, "--source", "server"]);
        assert!(log.contains("Starting default (STDIO) server"), "{log}");
    }
    let [template] = &folders(&osvm)[..] else { panic!("{:?}", folders(&osvm)) };
    let memory = fs::read(template.join("memory")).unwrap();
    let said = b"Starting default (STDIO) server...\n";
    assert!(
        memory.windows(said.len()).any(|bytes| bytes == said),
        "it was saved when it was ready"
    );
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_server_that_is_given_something_later_is_refused_with_a_hint() {
    let lent = tempfile::tempdir_in("/tmp").unwrap();
    let mount = format!("{}:/work", lent.path().display());
    let osvm = Osvm::with_config(STARTED).env("TOKEN", "x");
    let given = [
        (["--secret", "TOKEN"], "has secrets"),
        (["--mount", &mount], "is lent folders"),
        (["--allow", "example.com"], "reaches hosts"),
    ];
    for (given, why) in given {
        let launch = [&["mcp", "microvm", "launch", "demo"][..], &given].concat();
        osvm.run(&launch).expect(6).says(&["demo", why, "can't wait", "hint: ", "booted"]);
        osvm.ok(&[&launch[..], &["--template", "booted"]].concat());
        osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    }
}

#[test]
fn a_server_that_ends_before_it_is_spoken_to_has_no_such_template_and_the_reason_is_told() {
    let osvm = Osvm::new();
    let command = "/usr/bin/osvm-demo accomplice nobody";
    let launch = ["mcp", "microvm", "launch", "brief", "--template", "started"];
    osvm.run(&[&launch[..], &["--command", command]].concat()).expect(1);
    let told = osvm.logs().iter().any(|log| {
        fs::read_to_string(log).is_ok_and(|log| {
            log.contains("no template in which the server waits: the server exited with code")
        })
    });
    assert!(told, "{:?}", osvm.logs());
    assert_eq!(templates(&osvm), 1, "the one without it");
}
