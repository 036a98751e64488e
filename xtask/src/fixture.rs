//! The server that others' programs are tried with: osvm-demo's example `conformance`, built to run without any
//! library, as it is in a VM.

use std::env::{consts::ARCH, var_os};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{checkout, stage};

pub(crate) struct Fixture {
    /// An image with nothing in it but the program, as /conformance.
    image: TempDir,
}

impl Fixture {
    pub(crate) fn build() -> Result<Self> {
        let target = format!("{ARCH}-unknown-linux-gnu");
        // Other flags than the workspace's: in a folder of its own, or each build would undo the other.
        let folder = target_folder().join("conformance");
        let mut cargo = cargo();
        cargo.args(["build", "--locked", "--release", "--package", "osvm-demo"]);
        cargo.args(["--example", "conformance", "--target", &target, "--target-dir"]).arg(&folder);
        stage::done(cargo.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
        let image = tempfile::Builder::new().prefix("osvm-conformance-image-").tempdir()?;
        let built = folder.join(target).join("release/examples/conformance");
        fs::copy(&built, image.path().join("conformance"))
            .with_context(|| format!("copy {}", built.display()))?;
        Ok(Self { image })
    }

    /// For `--image`.
    pub(crate) fn image(&self) -> &Path {
        self.image.path()
    }

    /// The program, for whoever starts it by itself.
    pub(crate) fn program(&self) -> PathBuf {
        self.image.path().join("conformance")
    }

    /// Over HTTP, by itself, until what is returned is dropped.
    pub(crate) fn serve(&self) -> Result<Serving> {
        let mut program = Command::new(self.program());
        program.args(["--http", "127.0.0.1:0"]).stderr(Stdio::piped());
        let mut child = program.spawn().context("start the server")?;
        let said = child.stderr.take().context("read what the server says")?;
        let serving = Serving::new(child);
        let url = stage::line_with("http://", said)?;
        Ok(serving.at(url))
    }
}

/// The given command of osvm's, or the one that is built as users get it.
pub(crate) fn osvm(given: Option<&Path>) -> Result<PathBuf> {
    given.map_or_else(build_osvm, |program| Ok(program.to_owned()))
}

fn build_osvm() -> Result<PathBuf> {
    stage::done(cargo().args(["build", "--locked", "--release", "--bin", "osvm"]))?;
    let built = target_folder().join("release/osvm");
    ensure!(built.exists(), "cargo has built no {}", built.display());
    Ok(built)
}

fn cargo() -> Command {
    let mut cargo = Command::new(var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(checkout());
    cargo
}

fn target_folder() -> PathBuf {
    let folder = var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    checkout().join(folder.unwrap_or_else(|| "target".into()))
}

/// A program that ends when this is dropped.
pub(crate) struct Serving {
    child: Child,
    pub(crate) url: String,
}

impl Serving {
    pub(crate) fn new(child: Child) -> Self {
        Self { child, url: String::new() }
    }

    pub(crate) fn at(mut self, url: String) -> Self {
        self.url = url;
        self
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
