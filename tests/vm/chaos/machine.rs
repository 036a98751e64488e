//! Takes the steps, and looks whether all is as it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::getuid;
use serde_json::{Value, json};

use super::steps::{NAMES, Step, Victim};
use crate::osvm::{Ended, Osvm, eventually, kill, patience, wait};
use crate::rootfs::{MY_SERVER, Rootfs};

/// Of the daemon, whatever it does: descriptors beside those of three VMs, and resident memory.
const DESCRIPTORS: usize = 160;
const RESIDENT_KIB: u64 = 96 * 1024;

/// How commands may end here: done, failed, no such VM, no VM to be had, or too late. Neither a
/// usage error nor a panic.
const ENDS: [i32; 5] = [0, 1, 3, 4, 7];
/// What a client is told of a server that is gone.
const LOST: i64 = -32603;

pub(crate) struct Machine {
    osvm: Osvm,
    _rootfs: Rootfs,
    /// Number of the last call.
    calls: u64,
    answered: u64,
    /// Which VM did a call, as far as it is known.
    done: BTreeMap<u64, String>,
    /// Every VM there ever was.
    ids: BTreeSet<String>,
}

/// A command on its way, and the number it will answer if it is a call.
struct OnItsWay {
    child: Child,
    what: String,
    call: Option<u64>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        // Each call is noted before it is answered.
        let noting = "printf '%s\\n' \"$arguments\" >>/tmp/done\n        text=";
        let rootfs = Rootfs::with_server(&MY_SERVER.replace("text=", noting));
        let server = |name: &&str| {
            format!(
                "[[servers]]\nid = \"{name}\"\nimage = {:?}\ncommand = [\"/bin/server\"]\n\
                 microvm_config = {{ memory_mb = 64 }}\n",
                rootfs.text()
            )
        };
        let osvm = Osvm::with_config(&NAMES.iter().map(server).collect::<String>());
        let (done, ids) = (BTreeMap::new(), BTreeSet::new());
        Self { osvm, _rootfs: rootfs, calls: 0, answered: 0, done, ids }
    }

    pub(crate) fn take(&mut self, step: &Step) {
        let on_their_way = match step {
            Step::Launch(server) => vec![self.launch(*server)],
            Step::Call(server) => vec![self.call(*server)],
            Step::Run(server) => vec![self.run(*server)],
            Step::Exec(server) => {
                vec![self.start(&["mcp", "microvm", "exec", NAMES[*server], "--", "true"])]
            }
            Step::Stop(server) => vec![self.stop(*server)],
            Step::Kill(victim) => self.end_victim(*victim).into_iter().collect(),
            Step::Storm { calls, launch, run, wait, then } => {
                let mut all: Vec<_> = calls.iter().map(|server| self.call(*server)).collect();
                all.extend([self.launch(*launch), self.run(*run)]);
                thread::sleep(*wait);
                all.extend(self.end_victim(*then));
                all
            }
        };
        for command in on_their_way {
            self.finish(command);
        }
    }

    /// Nothing is left of what is not listed, and the daemon has not grown.
    pub(crate) fn check(&mut self) {
        self.osvm.daemon_pid();
        let osvm = &self.osvm;
        eventually("what runs and what lies there is what is listed", || is_true(osvm));
        let ready: Vec<_> = osvm.vms().into_iter().filter(|vm| vm["state"] == "ready").collect();
        for vm in &ready {
            self.ids.insert(text(&vm["id"]));
            self.ask_what_was_done(vm);
        }
        self.check_daemon();
    }

    /// All is stopped, and nothing of any VM is left anywhere.
    pub(crate) fn end(&mut self) {
        self.osvm.ok(&["mcp", "microvm", "stop", "--all"]);
        eventually("everything has ended", || {
            let ended = |vm: &Value| vm["state"] == "failed" || vm["state"] == "stopped";
            self.osvm.vms().iter().all(ended)
        });
        self.osvm.assert_nothing_left();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(self.osvm.runtime().to_str().unwrap()), "{mounts}");
        self.check_cgroups(Path::new("/sys/fs/cgroup"));
        assert!(self.answered > 0 && !self.done.is_empty(), "no call was ever answered");
    }

    pub(crate) fn summary(&self) -> String {
        let Self { calls, answered, ids, .. } = self;
        format!("{calls} calls, of which {answered} were answered, {} VMs", ids.len())
    }

    fn start(&self, args: &[&str]) -> OnItsWay {
        OnItsWay { child: self.osvm.start(args), what: args.join(" "), call: None }
    }

    fn launch(&self, server: usize) -> OnItsWay {
        self.start(&["mcp", "microvm", "launch", NAMES[server]])
    }

    fn stop(&self, server: usize) -> OnItsWay {
        self.start(&["mcp", "microvm", "stop", NAMES[server]])
    }

    fn call(&mut self, server: usize) -> OnItsWay {
        self.calls += 1;
        let arguments = json!({ "number": self.calls }).to_string();
        let call = self.start(&["mcp", "call", NAMES[server], "my-tool", &arguments]);
        OnItsWay { call: Some(self.calls), ..call }
    }

    /// All of a conversation at once; its answers are looked at when it has ended.
    fn run(&mut self, server: usize) -> OnItsWay {
        let mut run = self.start(&["mcp", "run", NAMES[server]]);
        self.calls += 1;
        let id = self.calls;
        let lines = [
            r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#.to_owned(),
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"my-tool","arguments":{{"number":{id}}}}}}}"#
            ),
        ];
        let mut stdin = run.child.stdin.take().unwrap();
        for line in lines {
            // It may have ended already.
            let _ = writeln!(stdin, "{line}");
        }
        run
    }

    fn end_victim(&self, victim: Victim) -> Option<OnItsWay> {
        let exec = |server: usize, user: &str, script: &str| {
            let user = format!("--user={user}");
            let args = ["mcp", "microvm", "exec", NAMES[server], &user, "--", "sh", "-c", script];
            Some(self.start(&args))
        };
        match victim {
            Victim::Daemon => self.osvm.crash_daemon(),
            Victim::Vmm(server) => self.kill_vmm(NAMES[server]),
            Victim::Agent(server) => {
                let worst = "kill -9 1; kill -SEGV 1; kill -9 -1; /bin/busybox reboot -f";
                return exec(server, "root", worst);
            }
            Victim::Server(server) => return exec(server, "1000", "kill -9 -1"),
            Victim::Vm(server) => return Some(self.stop(server)),
        }
        None
    }

    fn kill_vmm(&self, name: &str) {
        let vms = self.osvm.vms();
        let running = vms.iter().filter(|vm| vm["name"] == name && !is_over(vm));
        running.filter_map(|vm| vm["pid"].as_i64()).for_each(|pid| kill(pid.try_into().unwrap()));
    }

    /// In time, in one of the known ways, and with nobody else's answer.
    fn finish(&mut self, mut command: OnItsWay) {
        let deadline = Instant::now() + patience();
        drop(command.child.stdin.take());
        while command.child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                kill(command.child.id().try_into().unwrap());
                panic!("{} hangs: {:?}", command.what, wait(command.child));
            }
            thread::sleep(Duration::from_millis(5));
        }
        let ended = wait(command.child);
        let is_exec = command.what.contains(" exec ");
        let known = ended.code.is_some_and(|code| is_exec || ENDS.contains(&code));
        assert!(known && !ended.stderr.contains("panicked"), "{}: {ended:?}", command.what);
        match command.call {
            Some(number) => self.look_at_answer(number, &ended),
            None if command.what.starts_with("mcp run") => look_at_conversation(&ended),
            None => {}
        }
    }

    fn look_at_answer(&mut self, number: u64, ended: &Ended) {
        let own = json!({ "number": number }).to_string();
        if ended.code == Some(0) {
            assert_eq!(ended.stdout.trim(), own);
            self.answered += 1;
        } else {
            assert_eq!(ended.stdout, "", "{ended:?}");
        }
    }

    /// The server's own notes: no call twice, here or in another VM.
    fn ask_what_was_done(&mut self, vm: &Value) {
        let name = text(&vm["name"]);
        let notes = self.osvm.run(&["mcp", "microvm", "exec", &name, "--", "cat", "/tmp/done"]);
        let mut seen = BTreeSet::new();
        for line in notes.stdout.lines() {
            let note: Value = serde_json::from_str(line).unwrap_or_default();
            let Some(number) = note["number"].as_u64() else { continue };
            assert!(seen.insert(number), "call {number} was done twice in {vm}");
            let id = text(&vm["id"]);
            let other = self.done.insert(number, id.clone());
            assert!(other.is_none_or(|other| other == id), "call {number} was done again in {vm}");
        }
    }

    fn check_daemon(&self) {
        let proc = format!("/proc/{}", self.osvm.daemon_pid());
        // Of an ordinary user's daemon only root is told.
        if getuid().is_root() {
            let descriptors = fs::read_dir(format!("{proc}/fd")).unwrap().count();
            assert!(descriptors < DESCRIPTORS, "the daemon holds {descriptors} descriptors");
        }
        let status = fs::read_to_string(format!("{proc}/status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(resident < RESIDENT_KIB, "the daemon has {resident} KiB resident");
    }

    fn check_cgroups(&self, folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                let left = self.ids.iter().any(|id| name.contains(id.as_str()));
                assert!(!left, "{} is left", entry.path().display());
                self.check_cgroups(&entry.path());
            }
        }
    }
}

/// Processes and folders are those of the VMs listed, and a VM that is ready has both.
fn is_true(osvm: &Osvm) -> bool {
    let vms = osvm.vms();
    if vms.iter().any(|vm| vm["state"] == "stopping" || vm["state"] == "preparing") {
        return false;
    }
    let live: Vec<_> = vms.iter().filter(|vm| !is_over(vm)).collect();
    let pids: BTreeSet<_> = live.iter().filter_map(|vm| vm["pid"].as_i64()).collect();
    let running: BTreeSet<_> = osvm.vmm_processes().into_iter().map(i64::from).collect();
    let listed: BTreeSet<_> = live.iter().map(|vm| text(&vm["run_dir"])).collect();
    let lying = fs::read_dir(osvm.runtime()).unwrap().flatten();
    let lying: BTreeSet<_> = lying.map(|entry| entry.path().display().to_string()).collect();
    pids == running && listed == lying
}

fn is_over(vm: &Value) -> bool {
    vm["state"] == "failed" || vm["state"] == "stopped"
}

/// Each answer once, and to what was asked; or once that the server is gone.
fn look_at_conversation(ended: &Ended) {
    let mut seen = BTreeSet::new();
    for line in ended.stdout.lines() {
        // The last one may be cut off where the VM was.
        let Ok(answer) = serde_json::from_str::<Value>(line) else { continue };
        let id = answer["id"].as_u64().unwrap();
        assert!(seen.insert(id), "{ended:?}");
        if id > 0 && answer["error"]["code"] != LOST {
            let own = json!({ "number": id }).to_string();
            assert_eq!(answer["result"]["content"][0]["text"], own, "{ended:?}");
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
