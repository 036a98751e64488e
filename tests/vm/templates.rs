//! VMs that begin as clones of a template: each is its own, and what is theirs comes after the template.

mod faults;
mod random;
mod warm;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::osvm::{Osvm, eventually};

const BOOTED: &str = "[microvm]\ntemplate = \"booted\"\ndefault_memory_mb = 128\n";

fn cloning(servers: &[&str]) -> Osvm {
    let servers: String =
        servers.iter().map(|name| format!("[[servers]]\nid = \"{name}\"\n")).collect();
    Osvm::with_config(&format!("{BOOTED}{servers}"))
}

/// The machines that run, by their run directories.
fn machines(osvm: &Osvm) -> BTreeSet<String> {
    let dirs = fs::read_dir(osvm.runtime()).unwrap().flatten();
    let runs = dirs.filter(|dir| {
        let record = fs::read_to_string(dir.path().join("state.json"));
        record.is_ok_and(|record| record.contains("\"pid\""))
    });
    runs.map(|dir| dir.file_name().into_string().unwrap()).collect()
}

#[test]
fn the_next_call_that_has_a_vm_of_its_own_goes_on_as_the_clone_that_waits_for_it() {
    let server = "[[servers]]\nid = \"demo\"\nisolation_mode = \"ephemeral\"\n";
    let osvm = Osvm::with_config(&format!("{BOOTED}{server}"));
    let first = osvm.json(&["mcp", "call", "demo", "system_info", "--json"]);
    eventually("one clone waits, and its call's VM is gone", || {
        osvm.vms().is_empty() && machines(&osvm).len() == 1
    });
    let waits = machines(&osvm).pop_first().unwrap();
    let second = osvm.json(&["mcp", "call", "demo", "system_info", "--json"]);
    let boot = |answer: &Value| answer["structuredContent"]["boot_id"].clone();
    assert!(boot(&first).is_string() && boot(&first) != boot(&second));
    eventually("that clone is gone", || !machines(&osvm).contains(&waits));
    let id = waits.trim_start_matches("microvm-");
    let is_its = |log: &PathBuf| log.ancestors().any(|folder| folder.ends_with(id));
    let logs = osvm.logs();
    let log = logs.iter().find(|log| is_its(log) && log.ends_with("agent.log"));
    assert!(log.is_some(), "it has served a call, so its logs are kept: {logs:?}");
    // Those that wait end with the daemon.
    osvm.ok(&["daemon", "--stop"]);
    eventually("nothing is left", || machines(&osvm).is_empty());
    osvm.assert_nothing_left();
}

/// Folders of templates that are done.
fn templates(osvm: &Osvm) -> Vec<PathBuf> {
    let found = fs::read_dir(osvm.home().join("templates")).into_iter().flatten().flatten();
    let is_done = |path: &PathBuf| path.join("template.json").exists();
    found.map(|entry| entry.path()).filter(is_done).collect()
}

/// How many a test of many has: `OSVM_TEST_CLONES`, or what CI can spare.
pub(crate) fn many(spared: usize) -> usize {
    std::env::var("OSVM_TEST_CLONES").map_or(spared, |text| text.parse().unwrap())
}

/// Whether those bytes are anywhere in a guest's memory, of which most is zeros: these are looked at by the page.
fn holds(memory: &[u8], what: &[u8]) -> bool {
    const PAGE: usize = 4096;
    memory.chunks(PAGE).enumerate().filter(|(_, page)| *page != [0; PAGE]).any(|(number, _)| {
        // What begins in the page before, or ends in the next.
        let begin = (number * PAGE).saturating_sub(what.len());
        let end = memory.len().min((number + 1) * PAGE + what.len());
        memory[begin..end].windows(what.len()).any(|window| window == what)
    })
}

fn launch(osvm: &Osvm, name: &str) {
    osvm.ok(&["mcp", "microvm", "launch", name]);
    assert_eq!(osvm.vm(name)["cloned"], true);
}

fn system_info(osvm: &Osvm, name: &str) -> Value {
    let answer = osvm.json(&["mcp", "call", name, "system_info", "--json"]);
    answer["structuredContent"].clone()
}

#[test]
fn clones_share_their_beginning_and_nothing_else() {
    let osvm = cloning(&["one", "two"]);
    osvm.call("one", "write_file", &json!({"path": "/tmp/note", "content": "of one"}));
    let [one, two] = ["one", "two"].map(|name| system_info(&osvm, name));
    assert_eq!(templates(&osvm).len(), 1, "the second has found it");
    assert_eq!([&one["hostname"], &two["hostname"]], ["one", "two"]);
    assert!(one["boot_id"].is_string() && one["boot_id"] != two["boot_id"], "{one} {two}");
    osvm.run(&["mcp", "call", "two", "read_file", r#"{"path":"/tmp/note"}"#]).expect(5);
    assert_eq!(osvm.call("one", "read_file", &json!({"path": "/tmp/note"})).trim(), "of one");
    // Each ends for itself.
    osvm.ok(&["mcp", "microvm", "stop", "one"]);
    assert_eq!(osvm.call("two", "echo", &json!({"text": "still here"})).trim(), "still here");
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
    osvm.assert_nothing_left();
}

#[test]
fn what_a_server_is_given_reaches_a_clone_and_no_template() {
    const PLANTED: &str = "xyzzy-planted-in-a-template";
    let lent = tempfile::tempdir_in("/tmp").unwrap();
    fs::write(lent.path().join("note"), "lent").unwrap();
    let server = format!(
        "[[servers]]\nid = \"keeper\"\nsecrets = [\"TOKEN\"]\nmount = [\"{}:/xyzzy\"]\n",
        lent.path().display()
    );
    let osvm = Osvm::with_config(&format!("{BOOTED}{server}")).env("TOKEN", PLANTED);
    for _ in 0..2 {
        assert_eq!(osvm.call("keeper", "env", &json!({"name": "TOKEN"})).trim(), PLANTED);
        let note = osvm.call("keeper", "read_file", &json!({"path": "/xyzzy/note"}));
        assert_eq!(note.trim(), "lent");
        assert_eq!(osvm.vm("keeper")["cloned"], true);
        osvm.ok(&["mcp", "microvm", "stop", "keeper"]);
    }
    let [template] = &templates(&osvm)[..] else { panic!("{:?}", templates(&osvm)) };
    let memory = fs::read(template.join("memory")).unwrap();
    assert!(holds(&memory, b"Linux version"), "what is there is found");
    for file in fs::read_dir(template).unwrap().flatten() {
        let bytes = fs::read(file.path()).unwrap();
        for given in [PLANTED.as_bytes(), b"/xyzzy", b"keeper"] {
            assert!(
                !holds(&bytes, given),
                "{}: {}",
                file.path().display(),
                String::from_utf8_lossy(given)
            );
        }
    }
    osvm.assert_nothing_left();
}
