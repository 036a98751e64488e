//! What users would pick instead: the same servers as bare processes, under bubblewrap and under gVisor, beside osvm's clones.
//! A program that is not on PATH is left out, and said to be.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::images::{NODE, SERVER, fixtures};
use super::osvm::Osvm;
use super::pipe::Pipe;
use super::processes::{family, memory_kib};
use super::table::{Figure, median};
use super::{built, timed};

/// Calls whose median is told.
const CALLS: usize = 200;

/// A server, and what it lies in.
struct Server {
    name: &'static str,
    root: PathBuf,
    command: Vec<&'static str>,
    /// What its `echo` calls the text.
    argument: &'static str,
    memory: &'static str,
    /// The same files for gVisor, which makes folders among them: for osvm that would be another image.
    copy: TempDir,
}

/// What runs a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sandbox {
    Bare,
    Bubblewrap,
    GVisor,
    Osvm,
}

pub(super) fn figures(osvm: &Osvm, runs: usize) -> Result<Vec<Figure>> {
    let demo = built(&["--package", "osvm-demo"], "osvm-demo")?;
    let folder = tempfile::Builder::new().prefix("bench-demo-").tempdir()?;
    let servers = [with_libraries(&demo, &folder)?, everything()?];
    let sandboxes = all();
    let mut figures = Vec::new();
    for server in &servers {
        register(osvm, server)?;
        // In turns, so that a busy moment is everybody's.
        let mut measured: BTreeMap<_, Measured> = BTreeMap::new();
        for _ in 0..runs {
            for (place, sandbox) in sandboxes.iter().enumerate() {
                let own = measured.entry(place).or_default();
                let about = || format!("{} {}", server.name, sandbox.name());
                sandbox.run(osvm, server, own).with_context(about)?;
            }
        }
        for (place, sandbox) in sandboxes.iter().enumerate() {
            figures.extend(measured[&place].figures(server, sandbox.name(), &measured[&0]));
        }
    }
    Ok(figures)
}

/// A bare process is the first.
fn all() -> Vec<Sandbox> {
    let mut all = vec![Sandbox::Bare, Sandbox::Osvm];
    for (program, sandbox) in [("bwrap", Sandbox::Bubblewrap), ("runsc", Sandbox::GVisor)] {
        match on_path(program) {
            true => all.push(sandbox),
            false => println!("{program} is not on PATH: nothing {}", sandbox.name()),
        }
    }
    all
}

impl Sandbox {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "as a bare process",
            Self::Bubblewrap => "under bubblewrap",
            Self::GVisor => "under gVisor (ptrace)",
            Self::Osvm => "in a clone of osvm's",
        }
    }

    fn command(self, osvm: &Osvm, server: &Server) -> Result<Command> {
        match self {
            Self::Bare => Ok(bare(server)),
            Self::Bubblewrap => bubblewrap(server),
            Self::GVisor => Ok(gvisor(server)),
            Self::Osvm => Ok(osvm.command(&["mcp", "run", server.name])),
        }
    }

    fn run(self, osvm: &Osvm, server: &Server, into: &mut Measured) -> Result<()> {
        let mut command = self.command(osvm, server)?;
        let begin = Instant::now();
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut pipe = Pipe::with(&mut child, server.argument)?;
        pipe.call()?;
        into.first.push(begin.elapsed());
        for _ in 0..CALLS {
            into.calls.push(timed(|| pipe.call())?);
        }
        let processes = match self {
            Self::Osvm => vec![osvm.vmm(server.name)?.0],
            _ => family(child.id().into())?,
        };
        let memory = processes.iter().map(|pid| memory_kib(&pid.to_string(), "Pss:"));
        into.memory_kib.push(memory.sum::<Result<u64>>()?);
        drop(pipe);
        // A command of osvm's ends by itself.
        if self == Self::Osvm {
            child.wait()?;
            return osvm.ok(&["mcp", "microvm", "stop", server.name]).map(drop);
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }
}

#[derive(Default)]
struct Measured {
    first: Vec<Duration>,
    calls: Vec<Duration>,
    memory_kib: Vec<u64>,
}

impl Measured {
    fn figures(&self, server: &Server, how: &str, bare: &Self) -> [Figure; 3] {
        let what = |of: &str| format!("{} {how}: {of}", server.name);
        let memory = self.memory_kib.iter().max().copied().unwrap_or_default();
        let first = Figure::times(&what("start to the reply to its first call"), &self.first);
        [
            first.beside(median(&bare.first)),
            Figure::times(&what("a call after that"), &self.calls).beside(median(&bare.calls)),
            Figure::mib(&what("memory (PSS) of its processes"), memory as f64 / 1024.0),
        ]
    }
}

/// The demo server is linked with libraries of this host's, which come along.
fn with_libraries(program: &Path, folder: &TempDir) -> Result<Server> {
    let root = folder.path();
    let told = Command::new("ldd").arg(program).output().context("run ldd")?;
    let told = String::from_utf8(told.stdout)?;
    for library in told.split_whitespace().filter(|word| word.starts_with('/')) {
        let own = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(own.parent().context("find a library's folder")?)?;
        fs::copy(library, own).with_context(|| format!("copy {library}"))?;
    }
    fs::create_dir_all(root.join("bin"))?;
    fs::copy(program, root.join("bin/osvm-demo"))?;
    let (root, command, copy) = (root.to_owned(), vec!["/bin/osvm-demo"], copied(root)?);
    Ok(Server { name: "demo", root, command, argument: "text", memory: "128", copy })
}

fn everything() -> Result<Server> {
    let (root, command) = (fixtures()?.join("everything/root"), vec![NODE, SERVER, "stdio"]);
    let copy = copied(&root)?;
    Ok(Server { name: "everything", root, command, argument: "message", memory: "512", copy })
}

fn copied(root: &Path) -> Result<TempDir> {
    let copy = tempfile::Builder::new().prefix("bench-copy-").tempdir()?;
    let copied = Command::new("cp").arg("-a").arg(root.join(".")).arg(copy.path()).status()?;
    ensure!(copied.success(), "copy {}", root.display());
    Ok(copy)
}

/// With osvm, whose template and list of tools are made.
fn register(osvm: &Osvm, server: &Server) -> Result<()> {
    let image = server.root.display().to_string();
    let add = ["mcp", "add", server.name, "--image", &image, "--memory", server.memory, "--"];
    osvm.ok(&[&add[..], &server.command].concat())?;
    osvm.ok(&["mcp", "microvm", "launch", server.name])?;
    osvm.ok(&["mcp", "tools", server.name])?;
    osvm.ok(&["mcp", "microvm", "stop", server.name]).map(drop)
}

/// With its own files, at their places in the host.
fn bare(server: &Server) -> Command {
    let inside = |path: &str| server.root.join(path.trim_start_matches('/'));
    let mut command = Command::new(inside(server.command[0]));
    let arguments = server.command[1..].iter().map(|word| match word.starts_with('/') {
        true => inside(word).into_os_string(),
        false => OsString::from(word),
    });
    command.args(arguments);
    command
}

fn bubblewrap(server: &Server) -> Result<Command> {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--clearenv"]);
    for entry in fs::read_dir(&server.root)? {
        let entry = entry?;
        command.arg("--ro-bind").arg(entry.path()).arg(Path::new("/").join(entry.file_name()));
    }
    command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]).args(&server.command);
    Ok(command)
}

fn gvisor(server: &Server) -> Command {
    let mut command = Command::new("runsc");
    command.args(["--rootless", "--network=none", "--platform=ptrace", "do", "--root"]);
    command.arg(server.copy.path()).args(&server.command);
    command
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
