//! The archive that the lab's kernel unpacks first: its modules, a shell, and what the shell runs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use osvm_image::cpio::Writer;

use super::programs;

const INIT: &[u8] = include_bytes!("init.sh");
const RUN: &[u8] = include_bytes!("run.sh");

/// Writes it to `path`: `modules` is an archive, `job` the script that defines the command.
pub(super) fn write(path: &Path, modules: &Path, job: &[u8]) -> Result<()> {
    let shell = programs::find("busybox", "busybox-static")?;
    let shell = fs::read(&shell).with_context(|| format!("read {}", shell.display()))?;
    let mut archive = fs::read(modules).with_context(|| format!("read {}", modules.display()))?;
    let mut writer = Writer::new(&mut archive);
    writer.folder("/.lab", 0o755)?;
    writer.file("/.lab/busybox", 0o755, &shell)?;
    writer.file("/.lab/run.sh", 0o644, RUN)?;
    writer.file("/.lab/job.sh", 0o600, job)?;
    writer.file("/init", 0o755, INIT)?;
    writer.finish()?;
    fs::write(path, archive).with_context(|| format!("write {}", path.display()))
}
