//! The build itself: unpack, configure, check, compile, lay down. `kernel.rs` decides whether.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::fragment::Fragment;
use super::patches::Patch;
use super::source::Source;

/// Extra command line of this kernel under any VMM. There is no PCI bus to look for. Bounce buffers
/// are for devices without our virtio; they would take 64 MiB of a guest with more than 3 GiB. The
/// third is not built in, and says so in a warning unless it is told to be off. The last one is
/// explained in the patch that brings it.
const KERNEL_ARGS: &str = "pci=off swiotlb=noforce spec_rstack_overflow=off lapic_khz=1000000";

/// Two builds of one source give the same bytes, and name neither the machine nor its user.
const REPRODUCIBLE: [(&str, &str); 3] = [
    ("KBUILD_BUILD_TIMESTAMP", "1970-01-01"),
    ("KBUILD_BUILD_USER", "osvm"),
    ("KBUILD_BUILD_HOST", "osvm"),
];

/// One build, and where it goes.
pub(crate) struct Build<'a> {
    pub(crate) cache: &'a Path,
    pub(crate) kernel: &'a Path,
    pub(crate) source: &'a Source,
    pub(crate) patches: &'a [Patch],
    pub(crate) options: &'a str,
    pub(crate) jobs: usize,
}

/// `kernel.json`, read by osvm where it finds a kernel.
#[derive(Serialize)]
struct Manifest {
    version: String,
    flavour: &'static str,
    acpi: bool,
    args: &'static str,
}

impl Build<'_> {
    pub(crate) fn run(&self) -> Result<()> {
        let tree = self.work("build")?;
        self.unpack(&tree)?;
        self.patch(&tree)?;
        self.configure(&tree)?;
        self.compile(&tree)?;
        self.lay_down(&tree)?;
        remove(&tree)
    }

    /// An empty folder beside the result; what an interrupted build left there goes first.
    fn work(&self, name: &str) -> Result<PathBuf> {
        let folder = self.cache.join(name);
        remove(&folder)?;
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(folder)
    }

    fn unpack(&self, tree: &Path) -> Result<()> {
        let archive = &self.source.archive;
        say(&format!("unpacking {} ({})", archive.display(), self.source.version));
        let mut tar = Command::new("tar");
        tar.arg("--extract").arg("--file").arg(archive).arg("--strip-components=1");
        self.logged(tar.arg("--directory").arg(tree), "tar")
    }

    fn patch(&self, tree: &Path) -> Result<()> {
        for Patch { path, .. } in self.patches {
            say(&format!("applying {}", path.display()));
            let mut patch = Command::new("patch");
            patch.args(["--batch", "--forward", "--fuzz=0", "--strip=1"]);
            patch.arg("--directory").arg(tree).arg("--input").arg(path);
            self.logged(&mut patch, "patch")?;
        }
        Ok(())
    }

    fn configure(&self, tree: &Path) -> Result<()> {
        say("configuring");
        let asked = Fragment::parse(self.options)?;
        let fragment = tree.join("osvm.config");
        write(&fragment, self.options.as_bytes())?;
        let fragment = format!("KCONFIG_ALLCONFIG={}", fragment.display());
        self.logged(make(tree).arg(fragment).arg("allnoconfig"), "make allnoconfig")?;
        let lost = asked.lost(&read(&tree.join(".config"))?);
        if !lost.is_empty() {
            bail!("the options ask for what this kernel source does not give: {}", lost.join(", "));
        }
        Ok(())
    }

    fn compile(&self, tree: &Path) -> Result<()> {
        say(&format!("compiling with {} jobs; log: {}", self.jobs, self.log().display()));
        let jobs = format!("--jobs={}", self.jobs);
        self.logged(make(tree).args([&jobs, "vmlinux", "bzImage"]), "make vmlinux bzImage")
    }

    /// Everything into a folder of its own, and then that folder into place.
    fn lay_down(&self, tree: &Path) -> Result<()> {
        let folder = self.work("new")?;
        let mut strip = Command::new("strip");
        strip.arg("--strip-all").arg("-o").arg(folder.join("vmlinux")).arg(tree.join("vmlinux"));
        self.logged(&mut strip, "strip")?;
        copy(&tree.join("arch/x86/boot/bzImage"), &folder.join("bzImage"))?;
        copy(&tree.join(".config"), &folder.join("config"))?;
        write(&folder.join("kernel.json"), &manifest(tree)?)?;
        sync(&folder)?;
        remove(self.kernel)?;
        fs::rename(&folder, self.kernel)
            .with_context(|| format!("cannot move the kernel to {}", self.kernel.display()))
    }

    fn log(&self) -> PathBuf {
        self.cache.join("build.log")
    }

    /// Runs a step with its output in the log; when it fails, the log's last lines are told.
    fn logged(&self, command: &mut Command, step: &str) -> Result<()> {
        let log = File::create(self.log()).context("cannot create the build's log")?;
        let errors = log.try_clone().context("cannot share the build's log")?;
        let status = command.stdout(log).stderr(errors).status();
        if status.with_context(|| format!("cannot start {step}"))?.success() {
            return Ok(());
        }
        bail!("{step} failed; the end of {}:\n{}", self.log().display(), tail(&read(&self.log())?))
    }
}

fn make(tree: &Path) -> Command {
    let mut make = Command::new("make");
    make.arg("--directory").arg(tree).envs(REPRODUCIBLE);
    // A calling make's flags and targets are its own.
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CFLAGS", "LDFLAGS", "ARCH", "CROSS_COMPILE"] {
        make.env_remove(name);
    }
    make
}

fn manifest(tree: &Path) -> Result<Vec<u8>> {
    let version = read(&tree.join("include/config/kernel.release"))?.trim().to_owned();
    let manifest = Manifest { version, flavour: "lean", acpi: true, args: KERNEL_ARGS };
    serde_json::to_vec_pretty(&manifest).context("cannot write the manifest")
}

fn sync(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).context("cannot list the new kernel's files")? {
        File::open(entry?.path())?.sync_all()?;
    }
    Ok(())
}

fn say(step: &str) {
    eprintln!("kernel: {step}");
}

fn tail(log: &str) -> String {
    let lines: Vec<_> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file =
        File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
