//! `osvm setup`: finds or brings what a VM needs, and lays it down at the default paths.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use osvm_fleet::drivers::release::{self, Release, ReleaseError};
use osvm_fleet::drivers::{self, Choice};
use osvm_image::base::{self, File};
use osvm_image::kernel::{self, Flavour, Found, Kernel, Places};
use osvm_spec::Hypervisor;
use serde::{Deserialize, Serialize};

use crate::api::{ApiError, ErrorKind};
use crate::home::Home;
use crate::host::Host;
use crate::payload;

/// What setup found and did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// Only when a download was asked for.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub downloaded: Option<Downloaded>,
    pub vmm: VmmReport,
    pub kernel: KernelReport,
    pub rootfs: PathBuf,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VmmReport {
    pub program: PathBuf,
    /// `kvm` or `tcg`.
    pub accelerator: String,
    /// Why this VMM and this accelerator.
    pub reason: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KernelReport {
    pub path: PathBuf,
    pub version: String,
    /// `lean`, `distribution` or `custom`.
    pub flavour: String,
}

/// A VMM's release that was asked for and has been installed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Downloaded {
    pub version: String,
    /// Of the archive that was downloaded, in hexadecimal.
    pub sha256: String,
    pub programs: Vec<PathBuf>,
}

/// Where [`bring_vmm`] installs: the host's `own_programs`.
pub fn programs_dir(home: &Home) -> PathBuf {
    home.root().join("bin")
}

/// Downloads a VMM's release and installs its programs. `version` and `base`, its number and the
/// URL of the place that has it, are the project's newest known and its own when not given. Blocks.
pub fn bring_vmm(
    home: &Home,
    version: Option<&str>,
    base: Option<&str>,
    say: &mut dyn FnMut(&str),
) -> Result<Downloaded, ApiError> {
    let version = version.unwrap_or(release::VERSION);
    say(&format!("downloading firecracker {version}"));
    let mut progress = |done: u64, size: Option<u64>| {
        let of = size.map(|size| format!(" of {}", size >> 20)).unwrap_or_default();
        say(&format!("downloading firecracker {version}: {}{of} MiB", done >> 20));
    };
    let installed = Release::new(version, base.unwrap_or(release::PUBLIC))
        .and_then(|release| release::fetch(&release, &programs_dir(home), &mut progress))
        .map_err(|error| no_release(&error))?;
    Ok(Downloaded {
        version: installed.version,
        sha256: installed.sha256,
        programs: vec![installed.firecracker, installed.jailer],
    })
}

fn no_release(error: &ReleaseError) -> ApiError {
    let kind = match error {
        ReleaseError::Version(_) | ReleaseError::Place(_) => ErrorKind::Usage,
        _ => ErrorKind::Unavailable,
    };
    ApiError::new(kind, format!("failed to {}", drivers::chain(error)))
}

/// Brings everything that is missing. Each step is told to `say` before it begins. Blocks.
pub fn run(home: &Home, host: &Host, say: &mut dyn FnMut(&str)) -> Result<Report, ApiError> {
    say("looking for a VMM");
    let vmm = vmm(host)?;
    say("looking for a guest kernel");
    let kernel = bring_kernel(home, host, say)?;
    say("writing the base image");
    let rootfs = write_base(home)?;
    Ok(Report { downloaded: None, vmm, kernel, rootfs })
}

fn vmm(host: &Host) -> Result<VmmReport, ApiError> {
    let choice = choose(host).map_err(|error| {
        let failed = ApiError::new(ErrorKind::Unavailable, format!("failed to {error}"));
        match drivers::advice(&error) {
            Some(advice) => failed.hint(advice),
            None => failed,
        }
    })?;
    Ok(VmmReport {
        program: choice.program,
        accelerator: choice.accelerator.to_string(),
        reason: choice.reason,
    })
}

pub(crate) fn choose(host: &Host) -> Result<Choice, drivers::ChooseError> {
    drivers::explain(&host.facts(), &host.programs(), Hypervisor::Auto)
}

/// Installs the best kernel there is, or the distribution's when there is none.
fn bring_kernel(
    home: &Home,
    host: &Host,
    say: &mut dyn FnMut(&str),
) -> Result<KernelReport, ApiError> {
    let places = places(home, host);
    let found = match kernel::find(&places).into_iter().next() {
        Some(found) => found,
        None => {
            say("downloading the distribution's kernel package");
            let package = kernel::download(&places.packages).map_err(|error| failed(&error))?;
            Found::Package(package)
        }
    };
    let kernel = kernel::install(&found, &home.kernel_dir()).map_err(|error| failed(&error))?;
    Ok(report(&kernel))
}

pub(crate) fn report(kernel: &Kernel) -> KernelReport {
    KernelReport {
        path: kernel.path.clone(),
        version: kernel.version.clone(),
        flavour: match kernel.flavour {
            Flavour::Lean => "lean",
            Flavour::Distribution => "distribution",
            Flavour::Custom => "custom",
        }
        .to_owned(),
    }
}

fn places(home: &Home, host: &Host) -> Places {
    let cache = host.user_cache.clone().unwrap_or_else(|| home.cache()).join("osvm");
    Places {
        lean: lean_kernels(cache.join("kernel")),
        boot: "/boot".into(),
        modules: "/lib/modules".into(),
        packages: cache.join("packages"),
    }
}

/// Kernels that `cargo xtask kernel` has built, newest first.
fn lean_kernels(folder: PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut built: Vec<(SystemTime, PathBuf)> = entries
        .map(|entry| entry.path().join("vmlinux"))
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    built.sort();
    built.into_iter().rev().map(|(_, path)| path).collect()
}

fn write_base(home: &Home) -> Result<PathBuf, ApiError> {
    let path = home.default_rootfs();
    let demo = File { path: payload::DEMO_PATH, mode: 0o755, bytes: payload::DEMO };
    base::write(&path, &[demo]).map_err(|error| failed(&error))?;
    Ok(path)
}

fn failed(error: &dyn std::error::Error) -> ApiError {
    let message = format!("failed to {}", drivers::chain(error));
    ApiError::new(ErrorKind::Unavailable, message).hint("osvm doctor")
}
