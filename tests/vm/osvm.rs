//! The command under test, with a home of its own that is cleaned up, and checked to be clean.

use std::fs;
use std::io::Write;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, getuid, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::rootfs::fixture;
use crate::world::{self, World};

/// How long anything may take before the test has failed: `OSVM_TEST_PATIENCE` seconds, or 120.
pub(crate) fn patience() -> Duration {
    let seconds = std::env::var("OSVM_TEST_PATIENCE").ok().map(|text| text.parse().unwrap());
    Duration::from_secs(seconds.unwrap_or(120))
}

/// A user without any privilege, whom no machine has.
const ORDINARY: u32 = 54_321;

/// `osvm` with `OSVM_HOME` and `OSVM_RUNTIME_DIR` of its own.
pub(crate) struct Osvm {
    home: TempDir,
    runtime: TempDir,
    program: PathBuf,
    /// Who runs it, if that is not the user who runs the tests.
    user: Option<u32>,
    variables: Vec<(String, String)>,
    /// The process whose network it has, if that is not the host's.
    world: Option<u32>,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Osvm {
    /// Ready to launch: kernel and base image are there, as after `osvm setup`.
    pub(crate) fn new() -> Self {
        let osvm = Self::bare();
        let base = base();
        link_tree(&base.join("kernel"), &osvm.home().join("kernel"));
        // A file of its own: each link that another test makes counts as a change of the file.
        copy_tree(&base.join("rootfs"), &osvm.home().join("rootfs"));
        osvm
    }

    /// Ready to launch from a fixture: it is in the store already, since packing a large one takes its time.
    pub(crate) fn stocked(fixture: &Path) -> Self {
        let osvm = Self::new();
        for folder in IMAGES {
            link_tree(&stock(fixture).join(folder), &osvm.home().join("images").join(folder));
        }
        osvm
    }

    /// Ready to launch and to install packages.
    pub(crate) fn for_packages() -> Self {
        let osvm = Self::new();
        for folder in IMAGES.into_iter().chain(["layers"]) {
            let images = fixture("packages").join("images");
            link_tree(&images.join(folder), &osvm.home().join("images").join(folder));
        }
        osvm
    }

    /// As on the first day: an empty home.
    pub(crate) fn bare() -> Self {
        let folder = |what: &str| {
            // Short, since sockets live in it.
            tempfile::Builder::new().prefix(what).tempdir_in("/tmp").unwrap()
        };
        Self {
            home: folder("oh"),
            runtime: folder("or"),
            program: env!("CARGO_BIN_EXE_osvm").into(),
            user: None,
            variables: Vec::new(),
            world: None,
        }
    }

    /// Ready to launch for a user without any privilege: for another one, where root runs the tests.
    pub(crate) fn ordinary() -> Self {
        let mut osvm = Self::bare();
        osvm.user = getuid().is_root().then_some(ORDINARY);
        let base = base();
        for folder in ["kernel", "rootfs"] {
            copy_tree(&base.join(folder), &osvm.home().join(folder));
        }
        // The checkout may lie where only its owner may look.
        let program = osvm.home().join("osvm");
        fs::copy(&osvm.program, &program).unwrap();
        osvm.program = program;
        if let Some(user) = osvm.user {
            hand_over(osvm.home(), user);
            hand_over(osvm.runtime(), user);
        }
        osvm
    }

    /// With isolation_config.toml as given.
    pub(crate) fn with_config(text: &str) -> Self {
        let osvm = Self::new();
        osvm.write_config(text);
        osvm
    }

    pub(crate) fn write_config(&self, text: &str) {
        fs::write(self.home().join("isolation_config.toml"), text).unwrap();
    }

    #[must_use]
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// In the network of that world, which outlives it.
    #[must_use]
    pub(crate) fn within(mut self, world: &World) -> Self {
        self.world = Some(world.pid());
        self
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn runtime(&self) -> &Path {
        self.runtime.path()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.world {
            None => Command::new(&self.program),
            Some(world) => world::command(world, &self.program),
        };
        if let Some(user) = self.user {
            command.uid(user).gid(user).env("HOME", self.home()).env_remove("XDG_CACHE_HOME");
        }
        command
            .args(args)
            .env("OSVM_HOME", self.home.path())
            .env("OSVM_RUNTIME_DIR", self.runtime.path())
            .env("OSVM_LOG", "info")
            .envs(self.template().map(|level| ("OSVM_TEMPLATE", level)))
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.runtime.path())
            .stdin(Stdio::null());
        command
    }

    /// What VMs begin as where the test's configuration does not say so. A template costs a boot of its own, and most
    /// homes start one VM: they boot, unless `OSVM_TEST_TEMPLATE` has another level.
    fn template(&self) -> Option<String> {
        let config = fs::read_to_string(self.home().join("isolation_config.toml"));
        if config.is_ok_and(|config| config.contains("template = ")) {
            return None;
        }
        Some(std::env::var("OSVM_TEST_TEMPLATE").unwrap_or_else(|_| "none".to_owned()))
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        self.run_with(args, b"")
    }

    pub(crate) fn run_with(&self, args: &[&str], stdin: &[u8]) -> Ended {
        let mut child = self.start(args);
        let mut input = child.stdin.take().unwrap();
        let stdin = stdin.to_vec();
        // From another thread: a command that writes before it has read everything must not block.
        let writer = std::thread::spawn(move || drop(input.write_all(&stdin)));
        let ended = Ended::of(child.wait_with_output().unwrap());
        writer.join().unwrap();
        ended
    }

    /// The command, running; its streams are pipes.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// Standard output of a command that must work.
    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.run(args).expect(0).stdout
    }

    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let out = self.ok(args);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
    }

    /// The text a tool answered.
    #[track_caller]
    pub(crate) fn call(&self, name: &str, tool: &str, arguments: &Value) -> String {
        self.ok(&["mcp", "call", name, tool, &arguments.to_string()])
    }

    /// The VM's own status.
    #[track_caller]
    pub(crate) fn vm(&self, name: &str) -> Value {
        self.vms().into_iter().find(|vm| vm["name"] == name).expect("the VM is listed")
    }

    #[track_caller]
    pub(crate) fn vms(&self) -> Vec<Value> {
        match self.json(&["mcp", "microvm", "status", "--json"]) {
            Value::Array(vms) => vms,
            Value::Object(mut object) => match object.remove("vms") {
                Some(Value::Array(vms)) => vms,
                _ => panic!("no list of VMs in {object:?}"),
            },
            other => panic!("no list of VMs: {other}"),
        }
    }

    /// Pid of the daemon, which is started when it does not run.
    #[track_caller]
    pub(crate) fn daemon_pid(&self) -> i32 {
        let pid = self.json(&["daemon", "--json"])["pid"].as_i64().expect("a pid");
        i32::try_from(pid).unwrap()
    }

    /// Ends the daemon as a crash would, and waits until it is gone.
    pub(crate) fn crash_daemon(&self) {
        let pid = self.daemon_pid();
        kill(pid);
        // Its sockets are closed once it is a zombie of one thread, and not a moment earlier.
        eventually("the daemon is gone", || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            let is_zombie = |rest: &str| rest.trim_start().starts_with('Z') && threads <= 1;
            stat.rsplit_once(')').is_none_or(|(_, rest)| is_zombie(rest))
        });
    }

    /// Nothing of any VM is left: no run directory, no process that names one.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let left: Vec<_> = fs::read_dir(self.runtime()).unwrap().flatten().collect();
        assert!(left.is_empty(), "left in the runtime directory: {left:?}");
        assert_eq!(self.vmm_processes(), Vec::<i32>::new(), "VMMs are left");
    }

    /// What VMs and their VMMs said, those that run and those that have ended.
    pub(crate) fn logs(&self) -> Vec<PathBuf> {
        let inside = |folder: PathBuf| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let running = inside(self.runtime().to_owned()).into_iter().map(|vm| vm.join("logs"));
        let ended = inside(self.home().join("logs")).into_iter().flat_map(inside);
        let told = ["console.log", "vmm.log", "agent.log"];
        running.chain(ended).flat_map(|folder| told.map(|name| folder.join(name))).collect()
    }

    /// Processes whose arguments, working directory or log lie in a run directory, or whose log was moved out of one:
    /// of a VMM in its jail, and of the server of a lent folder, only the log shows.
    pub(crate) fn vmm_processes(&self) -> Vec<i32> {
        let runtime = self.runtime().to_str().unwrap();
        let ended = self.home().join("logs");
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid: &i32| {
            let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
            let log = fs::read_link(format!("/proc/{pid}/fd/2")).unwrap_or_default();
            let inside = |path: &Path| path.starts_with(runtime) && path != self.runtime();
            inside(&cwd)
                || inside(&log)
                || log.starts_with(&ended)
                || String::from_utf8_lossy(&arguments).contains(&format!("{runtime}/microvm-"))
        })
        .collect()
    }
}

impl Drop for Osvm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.home().join("run/daemon.log")).unwrap_or_default();
            eprintln!("daemon's log:\n{log}");
            for log in self.logs() {
                let text = fs::read_to_string(&log).unwrap_or_default();
                eprintln!("{}:\n{text}", log.display());
            }
        }
        if self.home().join("run/osvm.sock").exists() {
            let _ = self.command(&["mcp", "microvm", "stop", "--all"]).output();
            let _ = self.command(&["daemon", "--stop"]).output();
        }
        for pid in self.vmm_processes() {
            kill(pid);
        }
    }
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// The error names every one of these.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is not in {self:#?}");
        }
        self
    }
}

/// Waits for something that is bound to happen.
#[track_caller]
pub(crate) fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience();
    while !happened() {
        assert!(Instant::now() < deadline, "still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn kill(pid: i32) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

/// Sends Ctrl-C, as a terminal would, and waits for the command's end.
pub(crate) fn interrupt(child: Child) -> Ended {
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    Ended::of(child.wait_with_output().unwrap())
}

pub(crate) fn wait(child: Child) -> Ended {
    Ended::of(child.wait_with_output().unwrap())
}

/// A home in which `osvm setup` has run, made by whichever test comes first.
pub(crate) fn base() -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("base");
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.join(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let made = folder.join(".made");
    let program = fs::metadata(env!("CARGO_BIN_EXE_osvm")).unwrap().modified().unwrap();
    let fresh = fs::metadata(&made).and_then(|meta| meta.modified()).is_ok_and(|at| at > program);
    if !fresh {
        let setup = Command::new(env!("CARGO_BIN_EXE_osvm"))
            .arg("setup")
            .env("OSVM_HOME", &folder)
            .output()
            .unwrap();
        assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));
        fs::write(made, "").unwrap();
    }
    folder
}

/// What an image is in the store.
const IMAGES: [&str; 3] = ["blobs", "meta", "sources"];

/// A store that holds the fixture, made by whichever test comes first.
fn stock(fixture: &Path) -> PathBuf {
    let version = fs::canonicalize(fixture).unwrap();
    let version = version.parent().and_then(Path::file_name).unwrap();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("stock").join(version);
    fs::create_dir_all(&folder).unwrap();
    let lock = fs::File::create(folder.join(".lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    if !folder.join(IMAGES[2]).exists() {
        let osvm = Osvm::new();
        let image = fixture.to_str().unwrap();
        let none = ["mcp", "microvm", "launch", "stock", "--image", image, "--command", "/none"];
        osvm.run(&none).expect(1);
        for part in IMAGES {
            link_tree(&osvm.home().join("images").join(part), &folder.join(part));
        }
    }
    folder
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Gives a folder and everything in it to another user.
fn hand_over(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().flatten().for_each(|entry| hand_over(&entry.path(), user));
    }
}

fn link_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
