//! Which VMM with which accelerator, and why: decided from what the host can really do.
//!
//! "`/dev/kvm` exists" is not "KVM is usable": some hosts offer the device without hardware
//! virtualization behind it, and a stock guest then hangs. So on x86-64 both must hold: the device
//! opens, and `/proc/cpuinfo` shows `vmx` or `svm`.

use std::ffi::OsStr;
use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use osvm_spec::Hypervisor;
use thiserror::Error;

use crate::firecracker::Firecracker;
use crate::jail::Jail;
use crate::qemu::Qemu;
use crate::{Driver, VmmError};

/// Where the host's facts are read.
#[derive(Debug, Clone)]
pub struct HostFacts {
    pub cpuinfo: PathBuf,
    pub kvm: PathBuf,
}

/// The VMM programs that were found.
#[derive(Debug, Clone, Default)]
pub struct Programs {
    pub firecracker: Option<PathBuf>,
    pub qemu: Option<PathBuf>,
}

/// What will run the machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub vmm: Vmm,
    pub program: PathBuf,
    pub accelerator: Accelerator,
    /// A plain sentence for people: why this one.
    pub reason: String,
    /// What would make it faster, if anything would.
    pub hint: Option<Hint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vmm {
    Firecracker,
    Qemu,
}

/// What executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    Kvm,
    /// QEMU's software emulation.
    Tcg,
}

/// What KVM is worth on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kvm {
    Usable,
    /// The CPU can, there is no device.
    NoDevice,
    /// The CPU can, the device is there, this user may not open it.
    Denied,
    /// The device opens, the CPU shows neither `vmx` nor `svm`: guests would hang.
    NoHardware,
    /// The CPU can't, and no device opens either.
    Absent,
}

/// What the user could do. A value, so that the front door words it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    JoinKvmGroup,
    LoadKvmModule,
    InstallFirecracker,
    InstallQemu,
}

/// Why nothing can run a machine.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ChooseError {
    #[error("choose a VMM: {program} is not installed, and {why}")]
    Missing { program: Vmm, why: String, hint: Hint },
    #[error("choose firecracker as configured: {kvm}")]
    NoKvm { kvm: Kvm, hint: Option<Hint> },
}

/// Chooses for this host. A wish other than automatic is followed or refused, never replaced.
pub fn choose(
    host: &HostFacts,
    wish: Hypervisor,
    programs: &Programs,
) -> Result<Choice, ChooseError> {
    decide(host.kvm(), wish, programs)
}

/// The driver of a choice. Runs the program once to read its version.
pub async fn open(choice: &Choice, jail: &Jail) -> Result<Arc<dyn Driver>, VmmError> {
    Ok(match choice.vmm {
        Vmm::Firecracker => Arc::new(Firecracker::open(&choice.program, jail).await?),
        Vmm::Qemu => Arc::new(Qemu::open(&choice.program, choice.accelerator, jail).await?),
    })
}

impl Programs {
    /// The programs in the folder that `first` names, if it does, and then on a search path, as
    /// `PATH` holds one.
    pub fn find(first: Option<&Path>, path: &OsStr) -> Self {
        let folders: Vec<_> =
            first.map(Path::to_owned).into_iter().chain(std::env::split_paths(path)).collect();
        let find =
            |name: &str| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
        Self { firecracker: find("firecracker"), qemu: find("qemu-system-x86_64") }
    }
}

impl Default for HostFacts {
    fn default() -> Self {
        Self { cpuinfo: "/proc/cpuinfo".into(), kvm: "/dev/kvm".into() }
    }
}

impl HostFacts {
    /// Looks at the CPU's flags and opens the device.
    pub fn kvm(&self) -> Kvm {
        match (can_virtualize(&self.cpuinfo), device(&self.kvm)) {
            (true, Device::Opens) => Kvm::Usable,
            (true, Device::Denied) => Kvm::Denied,
            (true, Device::Missing) => Kvm::NoDevice,
            (false, Device::Opens) => Kvm::NoHardware,
            (false, Device::Denied | Device::Missing) => Kvm::Absent,
        }
    }
}

enum Device {
    Opens,
    Denied,
    Missing,
}

fn device(path: &Path) -> Device {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Device::Opens,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Device::Denied,
        Err(_) => Device::Missing,
    }
}

fn can_virtualize(cpuinfo: &Path) -> bool {
    let text = std::fs::read_to_string(cpuinfo).unwrap_or_default();
    let flags = text.lines().filter(|line| line.starts_with("flags"));
    flags.flat_map(str::split_ascii_whitespace).any(|flag| flag == "vmx" || flag == "svm")
}

fn decide(kvm: Kvm, wish: Hypervisor, programs: &Programs) -> Result<Choice, ChooseError> {
    match wish {
        Hypervisor::Firecracker => firecracker_as_wished(kvm, programs),
        Hypervisor::Qemu => qemu(kvm, programs, "the configuration asks for qemu"),
        Hypervisor::Auto => automatic(kvm, programs),
    }
}

fn automatic(kvm: Kvm, programs: &Programs) -> Result<Choice, ChooseError> {
    match (kvm, &programs.firecracker) {
        (Kvm::Usable, Some(program)) => {
            Ok(firecracker(program, "KVM is usable and firecracker is installed".to_owned()))
        }
        (Kvm::Usable, None) => {
            let choice = qemu(kvm, programs, "firecracker is not installed")?;
            Ok(Choice { hint: Some(Hint::InstallFirecracker), ..choice })
        }
        (_, _) => qemu(kvm, programs, "firecracker needs usable KVM"),
    }
}

/// The wish overrides what the CPU's flags say, but nothing runs without the device.
fn firecracker_as_wished(kvm: Kvm, programs: &Programs) -> Result<Choice, ChooseError> {
    let Some(program) = &programs.firecracker else {
        return Err(ChooseError::Missing {
            program: Vmm::Firecracker,
            why: "the configuration asks for it".to_owned(),
            hint: Hint::InstallFirecracker,
        });
    };
    match kvm {
        Kvm::Usable => {
            Ok(firecracker(program, "the configuration asks for firecracker".to_owned()))
        }
        Kvm::NoHardware => Ok(firecracker(
            program,
            format!("the configuration asks for firecracker, although {kvm}"),
        )),
        Kvm::Denied | Kvm::NoDevice | Kvm::Absent => {
            Err(ChooseError::NoKvm { kvm, hint: kvm.hint() })
        }
    }
}

fn firecracker(program: &Path, reason: String) -> Choice {
    Choice {
        vmm: Vmm::Firecracker,
        program: program.to_owned(),
        accelerator: Accelerator::Kvm,
        reason,
        hint: None,
    }
}

fn qemu(kvm: Kvm, programs: &Programs, why: &str) -> Result<Choice, ChooseError> {
    let Some(program) = &programs.qemu else {
        let why = if kvm == Kvm::Usable { why.to_owned() } else { format!("{why} ({kvm})") };
        return Err(ChooseError::Missing { program: Vmm::Qemu, why, hint: Hint::InstallQemu });
    };
    let accelerator = if kvm == Kvm::Usable { Accelerator::Kvm } else { Accelerator::Tcg };
    Ok(Choice {
        vmm: Vmm::Qemu,
        program: program.clone(),
        accelerator,
        reason: format!("{why}; {kvm}"),
        hint: kvm.hint(),
    })
}

impl Kvm {
    /// What would make KVM usable here, if anything would.
    pub fn hint(self) -> Option<Hint> {
        match self {
            Self::Denied => Some(Hint::JoinKvmGroup),
            Self::NoDevice => Some(Hint::LoadKvmModule),
            Self::Usable | Self::NoHardware | Self::Absent => None,
        }
    }
}

impl fmt::Display for Kvm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Usable => "KVM is usable",
            Self::NoDevice => "the CPU can virtualize, but there is no KVM device",
            Self::Denied => "the CPU can virtualize, but this user may not open the KVM device",
            Self::NoHardware => "the KVM device is there, but the CPU shows neither vmx nor svm",
            Self::Absent => "this host has no hardware virtualization",
        })
    }
}

impl fmt::Display for Vmm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Firecracker => "firecracker",
            Self::Qemu => "qemu-system-x86_64",
        })
    }
}

impl Accelerator {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
