//! What stands between a VMM and the host, looked at from outside.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::getuid;
use serde_json::{Value, json};

use crate::osvm::{Osvm, eventually};

/// A VM's VMM, as `/proc` shows it.
struct Vmm {
    status: Value,
    folder: PathBuf,
}

impl Vmm {
    fn launch(osvm: &Osvm) -> Self {
        osvm.ok(&["mcp", "microvm", "launch", "demo"]);
        let status = osvm.vm("demo");
        let folder = format!("/proc/{}", status["pid"]).into();
        Self { status, folder }
    }

    /// A field of `status`.
    fn field(&self, name: &str) -> String {
        let text = fs::read_to_string(self.folder.join("status")).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
    }

    fn state(&self, layer: &str) -> &Value {
        let jail = self.status["jail"].as_array().unwrap();
        jail.iter().find(|standing| standing["layer"] == layer).expect("every layer is told")
    }

    fn has(&self, layer: &str) -> bool {
        self.state(layer)["state"] == "on"
    }

    /// What every VMM has, whoever runs it.
    #[track_caller]
    fn assert_required_layers(&self) {
        for layer in ["no_new_privs", "rlimits", "seccomp", "landlock"] {
            assert_eq!(*self.state(layer), json!({"layer": layer, "state": "on"}));
        }
        // Some builds of Firecracker have none.
        let sandbox = self.state("vmm_sandbox").to_string();
        assert!(self.has("vmm_sandbox") || sandbox.contains("built with glibc"), "{sandbox}");
        assert_eq!(self.field("NoNewPrivs"), "1");
        assert_eq!(self.field("Seccomp"), "2");
        let filters: u32 = self.field("Seccomp_filters").parse().unwrap();
        assert!(filters >= 2, "ours and the VMM's own: {filters}");
        for capabilities in ["CapPrm", "CapEff", "CapInh", "CapAmb"] {
            assert_eq!(self.field(capabilities), "0000000000000000", "{capabilities}");
        }
        let limits = fs::read_to_string(self.folder.join("limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(5), Some("0"), "{core}");
    }

    /// What is told to be its own is not ours; what it sees of files is what its program needs.
    #[track_caller]
    fn assert_apart(&self) {
        let spaces = [
            ("user_namespace", "user"),
            ("mount_namespace", "mnt"),
            ("pid_namespace", "pid"),
            ("network_namespace", "net"),
            ("ipc_namespace", "ipc"),
            ("uts_namespace", "uts"),
        ];
        let space =
            |folder: &str, name: &str| fs::read_link(format!("{folder}/ns/{name}")).unwrap();
        for (layer, name) in spaces {
            let is_apart = space(self.folder.to_str().unwrap(), name) != space("/proc/self", name);
            assert_eq!(is_apart, self.has(layer), "{}", self.state(layer));
        }
        if self.has("mount_namespace") {
            let root = self.folder.join("root");
            let workplace = PathBuf::from(self.status["run_dir"].as_str().unwrap()).join("vmm");
            for absent in ["/home", "/root", "/tmp", "/var", "/etc/passwd", "/etc/ssl", "/sys"] {
                let seen = root.join(&absent[1..]);
                // Firecracker works in a folder of its run directory: the way there is there.
                match workplace.strip_prefix(absent) {
                    Ok(way) if seen.exists() => assert_only(&seen, way),
                    _ => assert!(fs::symlink_metadata(seen).is_err(), "{absent} is there"),
                }
            }
            let written = fs::write(root.join("file"), "").unwrap_err();
            assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        }
    }

    /// It is in a control group of its own, limited to what `status` tells, or `status` tells why not.
    #[track_caller]
    fn assert_limited(&self) -> Option<PathBuf> {
        let layer = self.state("control_group");
        if layer["state"] != "on" {
            assert!(layer["why"].as_str().is_some_and(|why| !why.is_empty()), "{layer}");
            return None;
        }
        let own = fs::read_to_string(self.folder.join("cgroup")).unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
        assert!(own.ends_with(&format!("osvm/{}", self.status["id"].as_str().unwrap())), "{own}");
        let group = Path::new("/sys/fs/cgroup").join(own);
        let limit = |name: &str| fs::read_to_string(group.join(name)).unwrap().trim().to_owned();
        assert_eq!(limit("memory.max"), self.status["memory_limit_bytes"].to_string());
        assert_eq!(limit("cpu.max"), "100000 100000");
        assert_eq!(limit("pids.max"), "512");
        Some(group)
    }

    /// No descriptor leads to a folder, a socket that connects somewhere, or a file that is not this
    /// VM's or its program's.
    #[track_caller]
    fn assert_few_descriptors(&self, osvm: &Osvm) {
        let run_dir = self.status["run_dir"].as_str().unwrap();
        let known = [run_dir, osvm.home().to_str().unwrap(), "/memfd:", "/dev/null", "/dev/kvm"];
        let kinds = ["socket:", "pipe:", "anon_inode:"];
        for entry in fs::read_dir(self.folder.join("fd")).unwrap().flatten() {
            let target = fs::read_link(entry.path()).unwrap();
            let target = target.to_str().unwrap();
            let is_known = known.iter().chain(&kinds).any(|known| target.starts_with(known))
                || target.ends_with("/firecracker-seccomp.bpf");
            assert!(is_known, "{target}");
        }
    }
}

#[track_caller]
fn assert_goes(group: Option<PathBuf>) {
    if let Some(group) = group {
        eventually("its control group is gone", || !group.exists());
    }
}

/// Folders with nothing in them but the next one of the way.
#[track_caller]
fn assert_only(folder: &Path, way: &Path) {
    let mut folder = folder.to_owned();
    for next in way {
        let names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [next], "{}", folder.display());
        folder.push(next);
    }
}

#[test]
fn a_vmm_has_the_layers_that_status_tells_and_adoption_keeps_telling_them() {
    let osvm = Osvm::new();
    let vmm = Vmm::launch(&osvm);
    vmm.assert_required_layers();
    vmm.assert_apart();
    vmm.assert_few_descriptors(&osvm);
    if vmm.has("own_user") {
        let users = vmm.field("Uid");
        let first = users.split_whitespace().next().unwrap();
        assert!(first.parse::<u32>().unwrap() >= 0x7800_0000, "{users}");
        assert!(users.split_whitespace().all(|user| user == first), "{users}");
        assert_eq!(vmm.field("Groups"), "");
        assert_eq!(vmm.field("CapBnd"), "0000000000000000");
    }
    let group = vmm.assert_limited();
    osvm.crash_daemon();
    assert_eq!(osvm.vm("demo")["jail"], vmm.status["jail"]);
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "still"})).trim(), "still");
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    osvm.assert_nothing_left();
    assert_goes(group);
}

#[test]
fn an_ordinary_users_vmm_has_all_layers_that_the_host_lends() {
    let osvm = Osvm::ordinary();
    let vmm = Vmm::launch(&osvm);
    vmm.assert_required_layers();
    vmm.assert_apart();
    vmm.assert_few_descriptors(&osvm);
    assert_eq!(vmm.state("own_user")["state"], "impossible");
    let group = vmm.assert_limited();
    osvm.crash_daemon();
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "still"})).trim(), "still");
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    osvm.assert_nothing_left();
    assert_goes(group);
}

#[test]
fn a_vmm_that_outgrows_its_control_group_is_ended_and_status_says_so() {
    let osvm = Osvm::new();
    let vmm = Vmm::launch(&osvm);
    let Some(group) = vmm.assert_limited() else {
        return eprintln!("skipped: {}", vmm.state("control_group")["why"]);
    };
    // The kernel ends what does not fit any more.
    fs::write(group.join("memory.max"), "1048576").unwrap();
    eventually("the VM has failed", || osvm.vm("demo")["state"] == "failed");
    let cause = osvm.vm("demo")["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains("more memory than its control group has"), "{cause}");
    osvm.assert_nothing_left();
    assert_goes(Some(group));
}

#[test]
fn two_vms_of_root_are_two_users() {
    if !getuid().is_root() {
        return eprintln!("skipped: only root can give a VM a user of its own");
    }
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "microvm", "launch-many", "2", "--memory", "64"]);
    let user = |vm: &Value| {
        let folder = format!("/proc/{}", vm["pid"]).into();
        Vmm { status: vm.clone(), folder }.field("Uid")
    };
    let users: Vec<_> = osvm.vms().iter().map(user).collect();
    assert_eq!(users.len(), 2);
    assert_ne!(users[0], users[1]);
}

#[test]
fn doctor_tells_each_layer() {
    let osvm = Osvm::new();
    let findings = osvm.json(&["doctor", "--json"]);
    let findings = findings.as_array().unwrap().iter().filter(|finding| finding["what"] == "jail");
    let told = findings.map(|finding| finding["found"].as_str().unwrap()).collect::<Vec<_>>();
    let told = told.join("; ");
    for layer in ["system call filter", "files by Landlock", "user namespace", "UTS namespace"] {
        assert!(told.contains(layer), "{told}");
    }
}

#[test]
fn the_daemon_gives_up_what_it_does_not_need() {
    let osvm = Osvm::new();
    let folder = PathBuf::from(format!("/proc/{}", osvm.daemon_pid()));
    let status = fs::read_to_string(folder.join("status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let filters = |status: &str| -> u32 {
        let count = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
        count.unwrap().trim().parse().unwrap()
    };
    let ours = fs::read_to_string("/proc/self/status").unwrap();
    assert_eq!(filters(&status), filters(&ours) + 1);
    // Its memory can't be read by its own user: the kernel gives such files to root.
    let ordinary = Osvm::ordinary();
    let folder = PathBuf::from(format!("/proc/{}", ordinary.daemon_pid()));
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(folder.join("environ")).unwrap());
    assert_eq!(owner, 0);
}
