//! What clones must not agree on: randomness of any kind, who they are; and what they must: the time.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::{BOOTED, many, templates};
use crate::osvm::Osvm;
use crate::rootfs::{MY_SERVER, Rootfs, fixture};

const MACHINE_ID: &str = "/etc/machine-id";

/// Prints a line for each thing it draws: of what kind it is, and the value. Each would be too long to be drawn twice
/// by chance. Python is started twice, for what it draws when it starts.
const DRAWS: &str = r#"
for n in 1 2 3 4; do echo "uuid $(cat /proc/sys/kernel/random/uuid)"; done
echo "boot_id $(cat /proc/sys/kernel/random/boot_id)"
echo "machine_id $(cat /etc/machine-id)"
for n in 1 2; do python3 -c '
import ctypes, os, random, secrets, ssl, uuid

def say(kind, draw):
    for _ in range(8):
        print(kind, draw())

say("urandom", lambda: open("/dev/urandom", "rb").read(16).hex())
say("getrandom", lambda: os.getrandom(16).hex())
say("python_random", random.random)
say("python_secrets", secrets.token_hex)
say("python_uuid4", uuid.uuid4)
say("openssl", lambda: ssl.RAND_bytes(16).hex())
print("python_hash", hash("x"))
libc = ctypes.CDLL(None)
libc.getauxval.restype = ctypes.c_ulong
print("auxv", ctypes.string_at(libc.getauxval(25), 16).hex())
maps = open("/proc/self/maps").read().splitlines()
print("addresses", *(line.split("-")[0] for line in maps if line.endswith(("[stack]", "/libc.so.6"))))
'; done
node -e '
const crypto = require("crypto");
const say = (kind, draw) => { for (let n = 0; n < 8; n++) console.log(kind, draw()); };
say("node_random", Math.random);
say("node_bytes", () => crypto.randomBytes(16).toString("hex"));
say("node_uuid", () => crypto.randomUUID());
say("node_web", () => Buffer.from(crypto.webcrypto.getRandomValues(new Uint8Array(16))).toString("hex"));
say("node_key", () => crypto.generateKeySync("aes", { length: 128 }).export().toString("hex"));
'
"#;

/// The kinds of things above.
const KINDS: usize = 17;

fn draws(osvm: &Osvm, vm: &Value) -> Vec<(String, String)> {
    let name = vm["name"].as_str().unwrap();
    let exec = ["mcp", "microvm", "exec", name, "--", "/bin/sh", "-ec", DRAWS];
    let drawn = osvm.ok(&exec);
    let drawn = drawn.lines().map(|line| line.split_once(' ').unwrap());
    drawn.map(|(kind, value)| (kind.to_owned(), value.to_owned())).collect()
}

/// By two at a time: so many processors has the smallest machine that tests run on.
fn all_draws(osvm: &Osvm, vms: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut kinds = BTreeMap::<_, Vec<_>>::new();
    thread::scope(|scope| {
        let of_all = |vms: &[Value]| vms.iter().flat_map(|vm| draws(osvm, vm)).collect::<Vec<_>>();
        let halves = vms.chunks(vms.len().div_ceil(2));
        let halves: Vec<_> = halves.map(|half| scope.spawn(move || of_all(half))).collect();
        for (kind, value) in halves.into_iter().flat_map(|half| half.join().unwrap()) {
            kinds.entry(kind).or_default().push(value);
        }
    });
    kinds
}

#[test]
fn no_draw_of_any_program_in_any_of_many_clones_is_another_ones() {
    let count = many(12);
    let image = fixture("tools");
    let osvm = Osvm::stocked(&image);
    osvm.write_config(BOOTED);
    let server = format!("/bin/sh -c '{}'", MY_SERVER.replace('\'', r"'\''"));
    let mut launch = vec!["mcp", "microvm", "launch-many"];
    let text = count.to_string();
    launch.extend([&text, "--memory", "256", "--image", image.to_str().unwrap()]);
    osvm.ok(&[&launch[..], &["--command", &server]].concat());
    let vms = osvm.vms();
    assert!(vms.len() == count && vms.iter().all(|vm| vm["cloned"] == true), "{vms:#?}");
    let kinds = all_draws(&osvm, &vms);
    assert_eq!(kinds.len(), KINDS, "{:?}", kinds.keys());
    for (kind, drawn) in &kinds {
        assert!(drawn.len() >= count && drawn.len() % count == 0, "{kind}: {}", drawn.len());
        let different: BTreeSet<_> = drawn.iter().collect();
        assert_eq!(different.len(), drawn.len(), "{kind}: {drawn:?}");
    }
    let drawn: usize = kinds.values().map(Vec::len).sum();
    eprintln!("random: {drawn} draws of {KINDS} kinds in {count} clones");
}

#[test]
fn clones_that_begin_at_once_have_one_template_and_agree_on_nothing_random() {
    let osvm = Osvm::with_config(BOOTED);
    osvm.ok(&["mcp", "microvm", "launch-many", "6", "--memory", "128"]);
    let vms = osvm.vms();
    assert!(vms.len() == 6 && vms.iter().all(|vm| vm["cloned"] == true), "{vms:#?}");
    assert_eq!(templates(&osvm).len(), 1);
    // What the kernel draws when it is first asked, and each time; what the agent draws from it.
    for path in ["/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/random/uuid", MACHINE_ID] {
        let path = json!({ "path": path });
        let draw = |vm: &Value| osvm.call(vm["name"].as_str().unwrap(), "read_file", &path);
        let drawn: BTreeSet<_> = vms.iter().map(draw).collect();
        assert_eq!(drawn.len(), 6, "{drawn:?}");
    }
}

/// One with what Debian's has: an id of its own, which is D-Bus's, too.
fn named() -> Rootfs {
    let image = Rootfs::with_server(MY_SERVER);
    std::fs::write(image.path().join("etc/machine-id"), "of the image\n").unwrap();
    std::fs::create_dir_all(image.path().join("var/lib/dbus")).unwrap();
    std::os::unix::fs::symlink(MACHINE_ID, image.path().join("var/lib/dbus/machine-id")).unwrap();
    image
}

fn exec(osvm: &Osvm, name: &str, command: &[&str]) -> String {
    osvm.ok(&[&["mcp", "microvm", "exec", name, "--"], command].concat())
}

#[test]
fn a_vm_has_no_id_of_another_nor_the_images() {
    let image = named();
    let osvm = Osvm::with_config(BOOTED);
    let of = |name: &str, template: &str| {
        let image = ["--image", image.text(), "--command", "/bin/server", "--template", template];
        osvm.ok(&[&["mcp", "microvm", "launch", name, "--memory", "128"], &image[..]].concat());
        let read = ["/bin/cat", MACHINE_ID, "/var/lib/dbus/machine-id"];
        let ids = exec(&osvm, name, &read);
        let (own, of_dbus) = ids.trim().split_once('\n').unwrap();
        assert_eq!(own, of_dbus);
        assert!(own.len() == 32 && own.bytes().all(|byte| byte.is_ascii_hexdigit()), "{own}");
        own.to_owned()
    };
    let ids = [of("booted", "none"), of("one", "booted"), of("two", "booted")];
    assert_eq!(BTreeSet::from(ids.clone()).len(), 3, "{ids:?}");
}

#[test]
fn a_clone_of_what_was_saved_before_has_the_time_of_now() {
    let image = named();
    let osvm = Osvm::with_config(BOOTED);
    let launch = |name: &str| {
        let image = ["--image", image.text(), "--command", "/bin/server"];
        osvm.ok(&[&["mcp", "microvm", "launch", name, "--memory", "128"], &image[..]].concat());
    };
    launch("before");
    // So much a clone would be behind that went on where the template was left.
    thread::sleep(Duration::from_secs(4));
    launch("now");
    assert_eq!(osvm.vm("now")["cloned"], true);
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let asked = now();
    let told: u64 = exec(&osvm, "now", &["/bin/busybox", "date", "+%s"]).trim().parse().unwrap();
    let answered = now();
    assert!((asked - 1..=answered + 1).contains(&told), "{asked} {told} {answered}");
}
