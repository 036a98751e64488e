//! One server, from its name to its answer, by the command alone.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

use super::catalogue::Server;
use super::outcomes::Outcome;

/// Where all of them are tried.
pub(super) struct Stage {
    program: PathBuf,
    home: PathBuf,
    runtime: TempDir,
    work: TempDir,
}

/// A program that ends when this is dropped, with all that it has started.
struct Serving(Child);

impl Stage {
    pub(super) fn new(program: &Path, home: &Path) -> Result<Self> {
        let program =
            fs::canonicalize(program).with_context(|| format!("find {}", program.display()))?;
        let temporary = |what| tempfile::Builder::new().prefix(what).tempdir();
        let (runtime, work) = (temporary("osvm-vms-")?, temporary("osvm-work-")?);
        let stage = Self { program, home: std::path::absolute(home)?, runtime, work };
        stage.fill_work()?;
        stage.osvm(&["setup"])?;
        Ok(stage)
    }

    /// A file and a commit.
    fn fill_work(&self) -> Result<()> {
        const SCRIPT: &str = "echo hello >hello.txt; git init --quiet -b main; git add .; \
            git -c user.name=a -c user.email=a@example.test commit --quiet -m 'say hello'; chmod -R a+rX .";
        run(Command::new("sh").args(["-ec", SCRIPT]).current_dir(self.work.path()))?;
        Ok(())
    }

    pub(super) fn attempt(&self, server: &Server) -> Outcome {
        let mut outcome = Outcome::default();
        let ended = self.go(server, &mut outcome);
        for args in
            [&["mcp", "microvm", "stop", &server.name][..], &["mcp", "remove", &server.name]]
        {
            // There may be none.
            let _ = self.command(args).output();
        }
        Outcome { failure: ended.err().map(|error| format!("{error:#}")), ..outcome }
    }

    fn go(&self, server: &Server, outcome: &mut Outcome) -> Result<()> {
        let made = tempfile::tempdir()?;
        if let Some(script) = &server.prepare {
            run(Command::new("bash").args(["-ec", script]).current_dir(made.path()))
                .context("prepare")?;
        }
        let _serving =
            server.serve.as_ref().map(|words| Serving::start(words, made.path())).transpose()?;
        let name = server.name.as_str();
        let (work, made) =
            (self.work.path().display().to_string(), made.path().display().to_string());
        let words =
            server.add.iter().map(|word| word.replace("{work}", &work).replace("{made}", &made));
        let words: Vec<_> = words.collect();
        let mut add = vec!["mcp", "add", name];
        if !words.iter().any(|word| word == "--memory") {
            add.extend(["--memory", "512"]);
        }
        add.extend(words.iter().map(String::as_str));
        outcome.add = Some(timed(|| self.osvm(&add))?.1);
        outcome.disk = self.disk(name)?;
        let _ = self.command(&["mcp", "microvm", "stop", name]).output();
        let (listed, start) = timed(|| self.osvm(&["mcp", "tools", name, "--json"]))?;
        outcome.start = Some(start);
        outcome.tools = serde_json::from_str::<Value>(&listed)?.as_array().map(Vec::len);
        outcome.memory = self.memory(name)?;
        let (answer, call) =
            timed(|| self.osvm(&["mcp", "call", name, &server.tool, &server.arguments]))?;
        outcome.call = Some(call);
        ensure!(answer.contains(&server.answer), "{} answered {answer:?}", server.tool);
        Ok(())
    }

    /// Of the server's VM, in MiB.
    fn memory(&self, name: &str) -> Result<Option<u64>> {
        let vms: Value =
            serde_json::from_str(&self.osvm(&["mcp", "microvm", "status", "--json"])?)?;
        let vm = vms.as_array().into_iter().flatten().find(|vm| vm["name"] == name);
        Ok(vm.and_then(|vm| vm["memory_used_bytes"].as_u64()).map(|bytes| bytes >> 20))
    }

    /// Of the server's image, in MiB.
    fn disk(&self, name: &str) -> Result<Option<u64>> {
        let images: Value = serde_json::from_str(&self.osvm(&["image", "list", "--json"])?)?;
        let uses = |image: &&Value| {
            image["used_by"].as_array().is_some_and(|users| users.contains(&name.into()))
        };
        let image = images.as_array().into_iter().flatten().find(uses);
        Ok(image.and_then(|image| image["size_bytes"].as_u64()).map(|bytes| bytes >> 20))
    }

    /// What the figures are of.
    pub(super) fn about(&self) -> Result<String> {
        let version = self.osvm(&["--version"])?;
        let doctor: Value =
            serde_json::from_str(&self.osvm(&["doctor", "--json"])?).unwrap_or_default();
        let vmm = doctor["chosen"].as_str().unwrap_or("QEMU without usable KVM").to_owned();
        Ok(format!("{}, {vmm}", version.trim()))
    }

    fn osvm(&self, args: &[&str]) -> Result<String> {
        run(&mut self.command(args))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args)
            .env("OSVM_HOME", &self.home)
            .env("OSVM_RUNTIME_DIR", self.runtime.path());
        command
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for args in [&["mcp", "microvm", "stop", "--all"][..], &["daemon", "--stop"]] {
            let _ = self.command(args).output();
        }
    }
}

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

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    Ok((work()?, start.elapsed()))
}
