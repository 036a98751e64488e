//! The small programs that measure from within a guest: compiled here, and what they tell.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::table::median;
use crate::checkout;

/// Compiles one of the checkout to a program that runs without any library.
pub(super) fn compile(source: &str, out: &Path) -> Result<()> {
    let built = Command::new("rustc")
        .args(["--edition=2024", "-O", "-Ctarget-feature=+crt-static", "-o"])
        .arg(out)
        .arg(checkout().join(source))
        .status()
        .context("run rustc")?;
    ensure!(built.success(), "build {source}");
    Ok(())
}

/// The middle one of the times that a client tells.
pub(super) fn told(text: &str) -> Result<Duration> {
    Ok(median(&times(text)?))
}

/// In nanoseconds, one a line.
pub(super) fn times(text: &str) -> Result<Vec<Duration>> {
    let times = text.lines().map(|line| Ok(Duration::from_nanos(line.trim().parse()?)));
    let times = times.collect::<Result<Vec<_>>>()?;
    ensure!(!times.is_empty(), "the client has told nothing");
    Ok(times)
}
