//! Where servers are added: a home that stays, with a folder to lend to them.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

use super::catalogue::Server;
use crate::stage::Stage;

pub(crate) struct Place {
    pub(crate) stage: Stage,
    work: TempDir,
}

/// What a server's script has made, until this is dropped.
pub(crate) struct Made {
    folder: TempDir,
    _serving: Option<Serving>,
}

impl Place {
    pub(crate) fn new(program: &Path, home: &Path) -> Result<Self> {
        let work = tempfile::Builder::new().prefix("osvm-work-").tempdir()?;
        fill(work.path())?;
        Ok(Self { stage: Stage::at(program, home)?, work })
    }

    /// The folder that is lent to servers.
    pub(crate) fn work(&self) -> &Path {
        self.work.path()
    }

    pub(crate) fn prepare(&self, server: &Server) -> Result<Made> {
        let folder = tempfile::tempdir()?;
        if let Some(script) = &server.prepare {
            run(Command::new("bash").args(["-ec", script]).current_dir(folder.path()))
                .context("prepare")?;
        }
        let serve = server.serve.as_ref();
        let serving = serve.map(|words| Serving::start(words, folder.path())).transpose()?;
        Ok(Made { folder, _serving: serving })
    }

    /// With so many MiB, unless the server asks for others itself.
    pub(crate) fn add(&self, server: &Server, made: &Made, memory: u32) -> Result<()> {
        let [work, made] =
            [self.work(), made.folder.path()].map(|folder| folder.display().to_string());
        let filled = |word: &String| word.replace("{work}", &work).replace("{made}", &made);
        let words: Vec<_> = server.add.iter().map(filled).collect();
        let memory = memory.to_string();
        let mut add = vec!["mcp", "add", &server.name];
        if !words.iter().any(|word| word == "--memory") {
            add.extend(["--memory", &memory]);
        }
        add.extend(words.iter().map(String::as_str));
        self.osvm(&add).map(drop)
    }

    /// The server's VM, and what is registered of it. There may be neither.
    pub(crate) fn remove(&self, server: &Server) {
        for args in [["mcp", "microvm", "stop"].as_slice(), &["mcp", "remove"]] {
            let _ = self.stage.command(args).arg(&server.name).output();
        }
    }

    /// Of the server's VM, in MiB.
    pub(crate) fn memory(&self, name: &str) -> Result<Option<u64>> {
        let vms: Value =
            serde_json::from_str(&self.osvm(&["mcp", "microvm", "status", "--json"])?)?;
        let vm = vms.as_array().into_iter().flatten().find(|vm| vm["name"] == name);
        Ok(vm.and_then(|vm| vm["memory_used_bytes"].as_u64()).map(|bytes| bytes >> 20))
    }

    /// What is told of the server's image; null of none.
    pub(crate) fn image(&self, name: &str) -> Result<Value> {
        let images: Value = serde_json::from_str(&self.osvm(&["image", "list", "--json"])?)?;
        let uses = |image: &&Value| {
            let users = image["used_by"].as_array();
            users.is_some_and(|users| users.iter().any(|user| user == name))
        };
        Ok(images.as_array().into_iter().flatten().find(uses).cloned().unwrap_or_default())
    }

    pub(crate) fn osvm(&self, args: &[&str]) -> Result<String> {
        run(&mut self.stage.command(args))
    }
}

/// A file and a commit, for whoever the server runs as.
fn fill(work: &Path) -> Result<()> {
    const SCRIPT: &str = "echo hello >hello.txt; git init --quiet -b main; git add .; \
        git -c user.name=a -c user.email=a@example.test commit --quiet -m 'say hello'; chmod -R a+rX .";
    run(Command::new("sh").args(["-ec", SCRIPT]).current_dir(work))?;
    Ok(())
}

/// A program that ends when this is dropped, with all that it has started.
struct Serving(Child);

impl Serving {
    fn start(words: &[String], folder: &Path) -> Result<Self> {
        let [program, args @ ..] = words else { bail!("no program to serve with") };
        let mut command = Command::new(program);
        command.args(args).current_dir(folder).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self(command.spawn().with_context(|| format!("start {program}"))?))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Standard output of what must work.
fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context("start a program")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let shown = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{} {}", said.trim(), shown.trim());
    Ok(String::from_utf8(output.stdout)?)
}
