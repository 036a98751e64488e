//! What is measured: a folder, which is lent and also lies in the guest's image, and the programs that use it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::bench::client;
use crate::checkout;

/// Removed when dropped.
pub(super) struct Scene {
    folder: TempDir,
}

/// Where the image has the folder.
pub(super) const OWN: &str = "/own";

/// Where the guest has what is lent.
pub(super) const LENT: &str = "/lent";

pub(super) const CLIENT: &str = "/bench/client";

const LARGE_MIB: usize = 64;

impl Scene {
    /// From the programs of the tests' fixtures.
    pub(super) fn new() -> Result<Self> {
        // Beside the fixtures, so that their files need not be copied.
        let fixtures = fixtures()?;
        let scene = Self { folder: tempfile::tempdir_in(&fixtures)? };
        let (tools, image) = (fixtures.join("tools/root"), scene.image());
        ok(Command::new("cp").arg("--archive").arg("--link").arg(&tools).arg(&image))?;
        for folder in ["bench", "lent", "own", "proc", "sys", "dev"] {
            let path = image.join(folder);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        fill(&scene.data(), &tools)?;
        let client = image.join(CLIENT.trim_start_matches('/'));
        client::compile("xtask/src/bench/folders/client.rs", &client)?;
        Ok(scene)
    }

    pub(super) fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    pub(super) fn data(&self) -> PathBuf {
        self.image().join(OWN.trim_start_matches('/'))
    }

    /// A program that the image has.
    pub(super) fn add(&self, path: &str, text: &str) -> Result<()> {
        let path = self.image().join(path.trim_start_matches('/'));
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        ok(Command::new("chmod").arg("755").arg(&path))
    }
}

fn fixtures() -> Result<PathBuf> {
    let built = Command::new(checkout().join("scripts/fixtures")).output();
    let built = built.context("run scripts/fixtures")?;
    ensure!(built.status.success(), "fixtures: {}", String::from_utf8_lossy(&built.stderr));
    let text = String::from_utf8(built.stdout)?;
    Ok(text.lines().last().context("read where the fixtures are")?.into())
}

/// One large file, 10,000 small ones, a repository of 5,000, and an npm package with what it needs.
fn fill(data: &Path, tools: &Path) -> Result<()> {
    // A pattern that no compression makes small, or the image's disk would be read at another's speed.
    let mut state = 1u64;
    let large: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(LARGE_MIB << 20)
    .collect();
    fs::write(data.join("large"), large)?;
    files(&data.join("small"), 10_000, 600)?;
    files(&data.join("repository"), 5_000, 60)?;
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=osvm", "-c", "user.email=osvm@localhost"];
        ok(Command::new("git").args(identity).args(arguments).current_dir(data.join("repository")))
    };
    // Older than its index, or git reads them all again to be sure.
    ok(Command::new("find").arg(data.join("repository")).args([
        "-exec",
        "touch",
        "-d",
        "1 hour ago",
        "{}",
        "+",
    ]))?;
    git(&["init", "--quiet"])?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message", "Begin"])?;
    let package = data.join("package");
    fs::create_dir(&package)?;
    let from = ["package.json", "package-lock.json", "node_modules"];
    let from = from.map(|name| tools.join("usr/lib").join(name));
    ok(Command::new("cp").arg("--archive").args(from).arg(&package))
}

/// A hundred in a folder.
fn files(folder: &Path, count: usize, size: usize) -> Result<()> {
    for number in 0..count {
        let folder = folder.join((number / 100).to_string());
        if number % 100 == 0 {
            fs::create_dir_all(&folder)?;
        }
        let text = format!("{number} ").repeat(size);
        fs::write(folder.join(number.to_string()), &text[..size])?;
    }
    Ok(())
}

fn ok(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {stderr}");
    Ok(())
}
