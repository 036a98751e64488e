//! Folders of the host's, lent to a server.

mod contents;
mod escapes;
mod file;
mod lending;
mod life;
mod protected;
mod read_only;
mod tools;

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::osvm::Osvm;

fn lend(osvm: &Osvm, folder: &Path, access: &str) {
    let mount = format!("{}:/work:{access}", folder.display());
    osvm.ok(&["mcp", "add", "files", "--mount", &mount]);
}

fn read(osvm: &Osvm, path: &str) -> String {
    osvm.call("files", "read_file", &json!({ "path": path })).trim_end().to_owned()
}

fn write(osvm: &Osvm, path: &str, content: &str) -> crate::osvm::Ended {
    let arguments = json!({ "path": path, "content": content }).to_string();
    osvm.run(&["mcp", "call", "files", "write_file", &arguments])
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hello.txt"), "from the host").unwrap();
    folder
}

#[test]
fn a_lent_folder_is_seen_as_it_is_and_what_changes_is_seen_on_both_sides() {
    let (osvm, folder) = (Osvm::new(), folder());
    lend(&osvm, folder.path(), "rw");
    assert_eq!(read(&osvm, "/work/hello.txt"), "from the host");
    write(&osvm, "/work/new.txt", "from the guest").expect(0);
    assert_eq!(fs::read_to_string(folder.path().join("new.txt")).unwrap(), "from the guest");
    fs::write(folder.path().join("later.txt"), "changed").unwrap();
    assert_eq!(read(&osvm, "/work/later.txt"), "changed");
    osvm.ok(&["mcp", "microvm", "stop", "files"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_later_daemon_knows_the_servers_of_folders_and_ends_a_vm_that_loses_one() {
    let (osvm, folder) = (Osvm::new(), folder());
    lend(&osvm, folder.path(), "rw");
    assert_eq!(read(&osvm, "/work/hello.txt"), "from the host");
    osvm.crash_daemon();
    write(&osvm, "/work/new.txt", "after the crash").expect(0);
    assert_eq!(fs::read_to_string(folder.path().join("new.txt")).unwrap(), "after the crash");
    let record =
        osvm.runtime().join(format!("microvm-{}", osvm.vm("files")["id"].as_str().unwrap()));
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(record.join("state.json")).unwrap()).unwrap();
    let pid = record["vm"]["folders"][0]["pid"].as_i64().unwrap();
    crate::osvm::kill(i32::try_from(pid).unwrap());
    crate::osvm::eventually("the VM has failed", || osvm.vm("files")["state"] == "failed");
    let cause = osvm.vm("files")["cause"].to_string();
    assert!(cause.contains("the server of the lent folder"), "{cause}");
    osvm.ok(&["mcp", "microvm", "stop", "files"]);
    osvm.assert_nothing_left();
}
