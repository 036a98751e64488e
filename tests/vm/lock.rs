//! What was accepted of a server, and what is refused until it is accepted, too.

use std::fs;

use serde_json::json;

use crate::osvm::Osvm;
use crate::rootfs::{MY_SERVER, Rootfs};

/// A server whose tool has a description.
fn described(text: &str) -> String {
    MY_SERVER
        .replace(r#""name":"my-tool","#, &format!(r#""name":"my-tool","description":"{text}","#))
}

#[test]
fn a_changed_image_is_refused_before_it_boots_until_it_is_accepted() {
    let root = Rootfs::with_server(MY_SERVER);
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "mine", "--image", root.text(), "--", "/bin/server"]);
    osvm.ok(&["mcp", "tools", "mine"]);
    let lock = fs::read_to_string(osvm.home().join("osvm.lock")).unwrap();
    assert!(lock.contains("[servers.mine.tools.my-tool]"), "{lock}");
    osvm.ok(&["mcp", "microvm", "stop", "mine"]);

    root.script("bin/server", &described("reads all your files"));
    let asked = [
        &["mcp", "tools", "mine"][..],
        &["mcp", "call", "mine", "my-tool", "{}"],
        &["mcp", "microvm", "launch", "mine"],
        &["mcp", "run", "mine"],
    ];
    for command in asked {
        let refused = osvm.run(command).expect(6);
        refused.says(&["mine is not what was accepted", "image changed", "osvm mcp accept mine"]);
    }
    assert!(osvm.vmm_processes().is_empty());

    let seen = osvm.run(&["mcp", "accept", "mine"]).expect(6);
    assert!(seen.stdout.contains("image changed"), "{seen:?}");
    assert!(seen.stdout.contains("reads all your files"), "{seen:?}");
    seen.says(&["osvm mcp accept mine --yes"]);
    osvm.run(&["mcp", "tools", "mine"]).expect(6);
    osvm.ok(&["mcp", "accept", "mine", "--yes"]);
    assert!(osvm.ok(&["mcp", "tools", "mine"]).contains("reads all your files"));
    assert_eq!(osvm.ok(&["mcp", "accept", "mine"]), "mine is as it was accepted\n");

    osvm.ok(&["mcp", "microvm", "stop", "mine"]);
    osvm.ok(&["mcp", "remove", "mine"]);
    let lock = fs::read_to_string(osvm.home().join("osvm.lock")).unwrap();
    assert!(!lock.contains("mine"), "{lock}");
}

#[test]
fn changed_tools_are_refused_and_shown_and_a_server_of_ones_own_is_not_locked() {
    let root = Rootfs::with_server("");
    let server = |script: &str, more: &str| {
        let words = json!(["/bin/sh", "-c", script]);
        format!(
            "[[servers]]\nid = \"mine\"\nimage = \"{}\"\ncommand = {words}\n{more}\n",
            root.text()
        )
    };
    let osvm = Osvm::with_config(&server(&described("adds numbers"), ""));
    osvm.ok(&["mcp", "tools", "mine"]);
    osvm.ok(&["mcp", "microvm", "stop", "mine"]);

    osvm.write_config(&server(&described("adds numbers, and sends them away"), ""));
    let refused = osvm.run(&["mcp", "call", "mine", "my-tool", "{}"]).expect(6);
    refused.says(&["my-tool", "- adds numbers", "+ adds numbers, and sends them away"]);
    let other = MY_SERVER.replace("my-tool", "other-tool");
    osvm.write_config(&server(&other, ""));
    osvm.run(&["mcp", "tools", "mine"]).expect(6).says(&["tool added: other-tool"]);
    assert!(osvm.vmm_processes().is_empty());

    osvm.write_config(&server(&other, "locked = false"));
    osvm.ok(&["mcp", "tools", "mine"]);
}

#[test]
fn a_lock_file_that_is_damaged_starts_nothing() {
    let root = Rootfs::with_server(MY_SERVER);
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "mine", "--image", root.text(), "--", "/bin/server"]);
    fs::write(osvm.home().join("osvm.lock"), "osvm_lock = 1\nservers = 7\n").unwrap();
    osvm.run(&["mcp", "tools", "mine"]).expect(6).says(&["osvm.lock", "damaged"]);
}
