//! The gateways that are measured: ours, and others that users have the choice of.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::client::Client;
use crate::cache;

/// How long a gateway may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that is not ours.
pub(super) struct Peer {
    pub(super) name: &'static str,
    program: PathBuf,
    /// Before the server's command, `PORT` for the port.
    arguments: &'static [&'static str],
    /// Whether the server's command is one word.
    as_one: bool,
    path: &'static str,
}

/// Brings them, unless they are here.
pub(super) fn all() -> Result<Vec<Peer>> {
    let npm = cache::folder("peers-npm")?;
    let installed = npm.join("node_modules/.bin");
    if !installed.join("supergateway").exists() || !installed.join("mcp-proxy").exists() {
        let mut install = Command::new("npm");
        install.args(["install", "--no-audit", "--no-fund", "--prefix"]).arg(&npm);
        done(install.args(["supergateway@4.0.0", "mcp-proxy@6.7.19"]))?;
    }
    let python = cache::folder("peers-python")?;
    if !python.join("bin/mcp-proxy").exists() {
        done(Command::new("python3").args(["-m", "venv"]).arg(&python))?;
        done(Command::new(python.join("bin/pip")).args(["-q", "install", "mcp-proxy==0.13.0"]))?;
    }
    Ok(vec![
        Peer {
            name: "supergateway",
            program: installed.join("supergateway"),
            arguments: &[
                "--outputTransport",
                "streamableHttp",
                "--stateful",
                "--logLevel",
                "none",
                "--port",
                "PORT",
                "--stdio",
            ],
            as_one: true,
            path: "/mcp",
        },
        Peer {
            name: "mcp-proxy of npm",
            program: installed.join("mcp-proxy"),
            arguments: &["--port", "PORT", "--server", "stream", "--"],
            as_one: false,
            path: "/mcp",
        },
        Peer {
            name: "mcp-proxy of PyPI",
            program: python.join("bin/mcp-proxy"),
            arguments: &["--port", "PORT", "--"],
            as_one: false,
            path: "/mcp",
        },
    ])
}

fn done(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {command:?}"))?;
    ensure!(status.success(), "{command:?} failed");
    Ok(())
}

impl Peer {
    pub(super) fn serve(&self, server: &Path) -> Result<Serving> {
        let port = free_port()?;
        let arguments = self.arguments.iter().map(|word| word.replace("PORT", &port.to_string()));
        let mut command = Command::new(&self.program);
        command.args(arguments);
        match self.as_one {
            true => command.arg(server.display().to_string()),
            false => command.arg(server),
        };
        Serving::start(command, format!("http://127.0.0.1:{port}{}", self.path))
            .with_context(|| format!("start {}", self.name))
    }
}

/// One that runs, until this is dropped.
pub(super) struct Serving {
    process: Child,
    pub(super) url: String,
}

impl Serving {
    pub(super) fn ours(gateway: &Path, server: &Path) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(gateway);
        command.arg(format!("127.0.0.1:{port}")).arg(server);
        Self::start(command, format!("http://127.0.0.1:{port}/servers/server/mcp"))
    }

    fn start(mut command: Command, url: String) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let serving = Self { process: command.spawn()?, url };
        let begin = Instant::now();
        while let Err(error) = Client::open(&serving.url) {
            if begin.elapsed() > PATIENCE {
                bail!("no session at {}: {error}", serving.url);
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(serving)
    }

    pub(super) fn resident_kib(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
        Ok(number.parse()?)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
