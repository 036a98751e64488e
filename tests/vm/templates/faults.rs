//! What goes wrong with templates, and with those who make them or begin as their clones.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::Child;

use serde_json::{Value, json};

use super::{BOOTED, cloning, launch, many, templates};
use crate::osvm::{Osvm, eventually, kill, wait};
use crate::small_disk::SmallDisk;

#[test]
fn a_template_that_is_not_as_it_was_written_is_made_again() {
    let osvm = cloning(&["demo"]);
    let flip = |path: PathBuf, at: u64| {
        let mut file = fs::File::options().write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(b"!").unwrap();
    };
    let damages: [&dyn Fn(PathBuf); 3] = [
        &|template| flip(template.join("memory"), 40 << 20),
        &|template| flip(template.join("state"), 20_000),
        &|template| fs::File::create(template.join("memory")).map(drop).unwrap(),
    ];
    launch(&osvm, "demo");
    for damage in damages {
        osvm.ok(&["mcp", "microvm", "stop", "demo"]);
        osvm.ok(&["daemon", "--stop"]);
        let [template] = &templates(&osvm)[..] else { panic!("{:?}", templates(&osvm)) };
        damage(template.clone());
        launch(&osvm, "demo");
        assert_eq!(osvm.call("demo", "echo", &json!({"text": "well"})).trim(), "well");
        let log = fs::read_to_string(osvm.home().join("run/daemon.log")).unwrap();
        assert!(log.contains("not as they were written"), "{log}");
        assert!(log.contains("template is removed"), "{log}");
    }
}

#[test]
fn clones_go_on_without_their_template_and_under_a_new_daemon() {
    let osvm = cloning(&["one", "two"]);
    launch(&osvm, "one");
    osvm.call("one", "write_file", &json!({"path": "/tmp/note", "content": "kept"}));
    fs::remove_dir_all(osvm.home().join("templates")).unwrap();
    assert_eq!(osvm.call("one", "read_file", &json!({"path": "/tmp/note"})).trim(), "kept");
    osvm.crash_daemon();
    assert_eq!(osvm.call("one", "read_file", &json!({"path": "/tmp/note"})).trim(), "kept");
    assert_eq!(osvm.vm("one")["cloned"], true);
    launch(&osvm, "two");
    assert_eq!(templates(&osvm).len(), 1, "it was made again");
}

#[test]
fn a_daemon_that_is_killed_while_it_makes_a_template_leaves_nothing_of_it() {
    let osvm = cloning(&["demo"]);
    let launch = osvm.start(&["mcp", "microvm", "launch", "demo"]);
    let all = || fs::read_dir(osvm.home().join("templates")).into_iter().flatten().flatten();
    // While its guest boots, which takes much longer than it takes to look again.
    eventually("a template is begun", || all().next().is_some());
    osvm.crash_daemon();
    wait(launch).expect(1);
    assert_eq!(osvm.vms(), Vec::<Value>::new());
    assert_eq!(osvm.vmm_processes(), Vec::<i32>::new());
    assert_eq!(all().count(), 0);
    self::launch(&osvm, "demo");
    assert_eq!((templates(&osvm).len(), all().count()), (1, 1));
}

#[test]
fn a_vmm_that_is_killed_while_it_makes_a_template_takes_the_vm_to_boot_without_one() {
    let osvm = cloning(&["demo"]);
    let launch = osvm.start(&["mcp", "microvm", "launch", "demo", "--json"]);
    let is_told =
        |log: &PathBuf| fs::read_to_string(log).is_ok_and(|log| log.contains("started, pid"));
    eventually("a guest boots for it", || osvm.logs().iter().any(is_told));
    osvm.vmm_processes().into_iter().for_each(kill);
    let ended = wait(launch).expect(0);
    let vm: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(vm["cloned"], false, "{vm}");
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "well"})).trim(), "well");
}

#[test]
fn a_disk_that_is_full_takes_the_vm_to_boot_and_holds_nothing_half_saved() {
    let osvm = cloning(&["demo"]);
    let folder = osvm.home().join("templates");
    let Some(disk) = SmallDisk::at(&folder, "8m") else { return };
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    assert_eq!(osvm.vm("demo")["cloned"], false);
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "well"})).trim(), "well");
    let log = osvm.ok(&["mcp", "microvm", "logs", "demo", "--source", "agent"]);
    assert!(log.contains("there is no template") && log.contains("No space left"), "{log}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    disk.grow("1g");
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    osvm.ok(&["daemon", "--stop"]);
    launch(&osvm, "demo");
}

/// Kills what appears of VMMs while the command runs, for as long as `more` says so of how many times that was.
fn hunt(osvm: &Osvm, command: &mut Child, more: impl Fn(usize) -> bool) {
    let mut times = 0;
    while more(times) && command.try_wait().unwrap().is_none() {
        let found: Vec<_> = osvm.vmm_processes().into_iter().filter(|pid| !is_osvm(*pid)).collect();
        times += usize::from(!found.is_empty());
        found.into_iter().for_each(kill);
    }
}

/// Whether it is the shim, which puts a VMM in its jail and then becomes it.
fn is_osvm(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "osvm")
}

#[test]
fn a_clone_whose_vmm_is_killed_while_it_is_restored_comes_up_all_the_same() {
    let osvm = cloning(&["demo"]);
    launch(&osvm, "demo");
    // One that is killed too late has been a clone, and was killed as any VM may be.
    let was_hit_in_time = || {
        osvm.ok(&["mcp", "microvm", "stop", "demo"]);
        let mut launch = osvm.start(&["mcp", "microvm", "launch", "demo"]);
        hunt(&osvm, &mut launch, |times| times < 1);
        wait(launch).expect(0);
        let log = osvm.ok(&["mcp", "microvm", "logs", "demo", "--source", "agent"]);
        log.contains("the template is of no use")
    };
    eventually("it is killed in time", was_hit_in_time);
    assert_eq!(osvm.vm("demo")["cloned"], true);
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "well"})).trim(), "well");
    assert_eq!(templates(&osvm).len(), 1, "another was made");
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_launch_of_which_every_vmm_is_killed_says_so_and_leaves_nothing() {
    let osvm = cloning(&["demo"]);
    launch(&osvm, "demo");
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    let mut last = osvm.start(&["mcp", "microvm", "launch", "demo"]);
    hunt(&osvm, &mut last, |_| true);
    wait(last).expect(4).says(&["error: "]);
    osvm.assert_nothing_left();
    assert_eq!(templates(&osvm).len(), 0);
    // It boots, and after that tries again.
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "well"})).trim(), "well");
}

#[test]
fn a_new_daemon_takes_back_every_one_of_many_clones() {
    let count = many(20);
    let osvm = Osvm::with_config(BOOTED);
    osvm.ok(&["mcp", "microvm", "launch-many", &count.to_string(), "--memory", "128"]);
    let running = || -> BTreeSet<String> {
        let told = |vm: &Value| {
            assert!(vm["state"] == "ready" && vm["cloned"] == true, "{vm}");
            format!("{} {} {}", vm["name"], vm["id"], vm["pid"])
        };
        osvm.vms().iter().map(told).collect()
    };
    let before = running();
    assert_eq!(before.len(), count);
    osvm.crash_daemon();
    assert_eq!(running(), before);
    for number in 1..=count {
        let (name, text) = (format!("many-{number}"), format!("from {number}"));
        assert_eq!(osvm.call(&name, "echo", &json!({"text": text})).trim(), text);
    }
    assert_eq!(running(), before, "none was replaced");
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
    osvm.assert_nothing_left();
}

#[test]
fn two_users_who_make_the_same_template_at_once_have_one_each() {
    let both = [Osvm::new(), Osvm::ordinary()];
    for osvm in &both {
        osvm.write_config(BOOTED);
    }
    let launch = |osvm: &Osvm| osvm.start(&["mcp", "microvm", "launch", "demo"]);
    for launch in both.each_ref().map(launch) {
        wait(launch).expect(0);
    }
    for osvm in &both {
        assert_eq!(osvm.vm("demo")["cloned"], true);
        assert_eq!(osvm.call("demo", "echo", &json!({"text": "well"})).trim(), "well");
        assert_eq!(templates(osvm).len(), 1);
    }
}
