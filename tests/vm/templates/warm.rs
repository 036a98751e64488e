//! A server that has run once for the template of its later VMs: they find its image's pages in memory, and nothing else
//! of it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;

use super::{BOOTED, templates};
use crate::osvm::{Osvm, eventually};
use crate::rootfs::{MY_SERVER, Rootfs};

/// At each start, as root: leaves a mark wherever it may write, and notes how much of the disk is read for a file.
const STARTS: &str = r#"
for folder in / /tmp /run /dev/shm; do echo started >>$folder/marks; done
sectors() { while read -r _ _ name _ _ read _; do [ $name != vda ] || echo $read; done </proc/diskstats; }
before=$(sectors)
cat /large >/dev/null
echo $(($(sectors) - before)) >/tmp/sectors
cat /proc/sys/kernel/random/boot_id >/tmp/boot_id
"#;

/// Of the file that is read.
const BYTES: u64 = 2 << 20;
const SECTOR: u64 = 512;

fn exec(osvm: &Osvm, name: &str, command: &[&str]) -> String {
    osvm.ok(&[&["mcp", "microvm", "exec", name, "--"], command].concat())
}

fn sectors(osvm: &Osvm, name: &str) -> u64 {
    exec(osvm, name, &["cat", "/tmp/sectors"]).trim().parse().unwrap()
}

#[test]
fn later_vms_find_the_images_pages_in_memory_and_no_trace_of_the_server_that_read_them() {
    let root = Rootfs::with_server(&format!("{STARTS}{MY_SERVER}"));
    let large = File::create(root.path().join("large")).unwrap();
    io::copy(&mut io::Read::take(File::open("/dev/urandom").unwrap(), BYTES), &mut &large).unwrap();
    let servers = ["first", "second", "third"].map(|name| {
        let (image, command) = (root.text(), r#"command = ["/bin/server"]"#);
        format!("[[servers]]\nid = \"{name}\"\nimage = \"{image}\"\n{command}\nuser = \"0\"\n")
    });
    let config = format!("{BOOTED}{}", servers.concat());
    let osvm = Osvm::with_config(&config).env("OSVM_REHEARSE_SECONDS", "1");
    osvm.ok(&["mcp", "microvm", "launch", "first"]);
    assert!(sectors(&osvm, "first") >= BYTES / SECTOR, "it is read from the disk");
    eventually("there is another template", || templates(&osvm).len() == 2);
    eventually("its machine is gone", || fs::read_dir(osvm.runtime()).unwrap().count() == 1);

    let mut boot_ids = BTreeSet::from([exec(&osvm, "first", &["cat", "/tmp/boot_id"])]);
    for name in ["second", "third"] {
        osvm.ok(&["mcp", "microvm", "launch", name]);
        assert_eq!(osvm.vm(name)["cloned"], true);
        assert_eq!(sectors(&osvm, name), 0, "it is in memory");
        for folder in ["/", "/tmp", "/run", "/dev/shm"] {
            let marks = exec(&osvm, name, &["cat", &format!("{folder}/marks")]);
            assert_eq!(marks, "started\n", "{folder}");
        }
        boot_ids.insert(exec(&osvm, name, &["cat", "/tmp/boot_id"]));
        assert_eq!(
            exec(&osvm, name, &["cat", "/proc/sys/kernel/random/boot_id"]),
            exec(&osvm, name, &["cat", "/tmp/boot_id"])
        );
    }
    assert_eq!(boot_ids.len(), 3, "{boot_ids:?}");
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
    osvm.assert_nothing_left();
}
