//! osvm under trial, in a home that goes when this is dropped or in one that stays. Its VMs and daemon go in any case.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use toml_edit::DocumentMut;

use crate::fixture::{Fixture, Serving};

pub(crate) struct Stage {
    program: PathBuf,
    home: PathBuf,
    /// What VMs leave behind, and a home that was not given.
    passing: TempDir,
}

/// Who may speak to the gateway.
#[derive(Clone, Copy)]
pub(crate) enum Access {
    Open,
    ByToken,
}

impl Stage {
    pub(crate) fn new(program: &Path) -> Result<Self> {
        let passing = passing()?;
        Self::set(program, passing.path().to_owned(), passing)
    }

    /// With what was made in that home before, such as images.
    pub(crate) fn at(program: &Path, home: &Path) -> Result<Self> {
        let home = std::path::absolute(home).with_context(|| format!("find {}", home.display()))?;
        Self::set(program, home, passing()?)
    }

    fn set(program: &Path, home: PathBuf, passing: TempDir) -> Result<Self> {
        let program =
            fs::canonicalize(program).with_context(|| format!("find {}", program.display()))?;
        let stage = Self { program, home, passing };
        fs::create_dir(stage.vms()).context("make a folder for VMs")?;
        stage.osvm(&["setup"])?;
        Ok(stage)
    }

    fn vms(&self) -> PathBuf {
        self.passing.path().join("vms")
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Changes a number of the configuration.
    pub(crate) fn configure(&self, section: &str, key: &str, number: u64) -> Result<()> {
        let path = self.home.join("isolation_config.toml");
        let change = || {
            let text = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
            let mut config: DocumentMut = text.parse()?;
            config[section][key] = toml_edit::value(i64::try_from(number)?);
            anyhow::Ok(fs::write(&path, config.to_string())?)
        };
        change().with_context(|| format!("change {}", path.display()))
    }

    /// Standard output of what must work.
    pub(crate) fn osvm(&self, args: &[&str]) -> Result<String> {
        said(&mut self.command(args))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args);
        self.at_home(&mut command);
        command
    }

    /// What osvm's commands take from the environment.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("OSVM_HOME", self.home.clone()), ("OSVM_RUNTIME_DIR", self.vms())]
    }

    pub(crate) fn at_home(&self, command: &mut Command) {
        command.envs(self.environment());
    }

    /// The fixture in a VM, under a name.
    pub(crate) fn add(&self, name: &str, fixture: &Fixture) -> Result<()> {
        let image = fixture.image().display().to_string();
        self.osvm(&["mcp", "add", name, "--image", &image, "--", "/conformance"])?;
        Ok(())
    }

    /// The gateway, until what is returned is dropped: for everybody, or for who has the token.
    pub(crate) fn gateway(&self, access: Access) -> Result<Serving> {
        let mut gateway = self.command(&["mcp", "gateway", "--listen", "127.0.0.1:0"]);
        gateway.args(matches!(access, Access::Open).then_some("--no-token"));
        let mut child = gateway.stdout(Stdio::piped()).spawn().context("start the gateway")?;
        let said = child.stdout.take().context("read what the gateway says")?;
        let serving = Serving::new(child);
        let line = line_with("http://", said)?;
        let url = line.trim_start_matches("listening on ").to_owned();
        Ok(serving.at(url))
    }

    /// The token of a gateway that has been started.
    pub(crate) fn token(&self) -> Result<String> {
        let path = self.home.join("gateway.token");
        let token =
            fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(token.trim().to_owned())
    }

    /// What a page is of: versions, the VMM, what else took part, the day.
    pub(crate) fn about(&self, others: &[String]) -> Result<Vec<String>> {
        about(|args| self.osvm(args), others)
    }
}

/// The same of an osvm that is asked so.
pub(crate) fn about(
    osvm: impl Fn(&[&str]) -> Result<String>,
    others: &[String],
) -> Result<Vec<String>> {
    let doctor: Value = serde_json::from_str(&osvm(&["doctor", "--json"])?)?;
    let vmm = doctor.as_array().into_iter().flatten().find(|found| found["what"] == "VMM");
    let vmm = vmm.and_then(|found| found["found"].as_str()).context("find the VMM")?;
    let vmm = vmm.split(':').next().unwrap_or(vmm).rsplit('/').next().unwrap_or(vmm);
    let now = humantime::format_rfc3339(std::time::SystemTime::now()).to_string();
    let ours = [osvm(&["--version"])?.trim().to_owned(), vmm.to_owned()];
    Ok([&ours[..], others, &[now[..10].to_owned()]].concat())
}

impl Drop for Stage {
    fn drop(&mut self) {
        for args in [&["mcp", "microvm", "stop", "--all"][..], &["daemon", "--stop"]] {
            let _ = self.command(args).output();
        }
    }
}

fn passing() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("osvm-stage-").tempdir()?)
}

/// The first line with this in it. The rest is read, too, so that whoever writes it is not held up.
pub(crate) fn line_with(what: &str, from: impl Read + Send + 'static) -> Result<String> {
    let mut lines = BufReader::new(from).lines();
    let line = lines.by_ref().map_while(Result::ok).find(|line| line.contains(what));
    thread::spawn(move || lines.for_each(drop));
    line.with_context(|| format!("wait for a line with {what}"))
}

/// Standard output of what must work.
pub(crate) fn said(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context("start a program")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", stderr.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// What must work, and is shown while it does.
pub(crate) fn done(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}
