//! Guest kernels: what a file is, where one comes from, and how it is laid down for the VMMs.
//!
//! A kernel is one file and `kernel.json` beside it, which says what must be known to boot it. A
//! file without one is the user's own and is asked itself. [`find`] and [`download`] bring what a
//! kernel can be made from, and [`install`] makes an ELF `vmlinux` of it, which every VMM boots.
//! [`stock`] brings a distribution's kernel as it is, for machines that are no guests of osvm.

mod bzimage;
mod elf;
mod fetch;
mod find;
pub(crate) mod fuzz;
mod inspect;
mod install;
mod manifest;
mod modules;
mod package;
mod stock;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use bzimage::BzImageError;
pub use elf::ElfError;
pub use fetch::{FetchError, download};
pub use find::{Found, Places, find};
pub use inspect::{Format, Inspection, inspect};
pub use install::install;
pub use modules::ModulesError;
pub use package::PackageError;
pub use stock::{Stock, stock};

use manifest::Manifest;

/// A kernel ready to boot: the file and what must be known to boot it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    pub path: PathBuf,
    /// As in `uname -r`.
    pub version: String,
    pub flavour: Flavour,
    /// Whether it finds its devices by ACPI (distributions' kernels) or on the command line.
    pub acpi: bool,
    /// Extra command line that this kernel wants.
    pub args: String,
    /// Archive of kernel modules (`/.osvm/modules/NN-name.ko`) for the initramfs.
    pub modules: Option<PathBuf>,
}

/// Where a kernel came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavour {
    /// Built from guest/kernel: everything built in.
    Lean,
    /// A distribution's, with modules.
    Distribution,
    /// The user's own file, with no manifest beside it.
    Custom,
}

/// Why a kernel can't be used or had.
#[derive(Debug, Error)]
pub enum KernelError {
    #[error("read kernel {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("use kernel {}: it is a folder, not a file", path.display())]
    Folder { path: PathBuf },
    #[error("use kernel {}: it is empty", path.display())]
    Empty { path: PathBuf },
    #[error("use kernel {}: it is neither an ELF vmlinux nor a bzImage", path.display())]
    Unknown { path: PathBuf },
    #[error("use kernel {}", path.display())]
    Elf { path: PathBuf, source: ElfError },
    #[error("use kernel {}", path.display())]
    BzImage { path: PathBuf, source: BzImageError },
    #[error("read what is known of a kernel from {}", path.display())]
    Manifest { path: PathBuf, source: serde_json::Error },
    #[error("read what is known of a kernel from {}: its format is {found}, known is {known}", path.display())]
    ManifestFormat { path: PathBuf, found: u32, known: u32 },
    #[error("find the modules of kernel {}: {} is missing", path.display(), modules.display())]
    NoModules { path: PathBuf, modules: PathBuf },
    #[error("unpack kernel package {}", path.display())]
    Package { path: PathBuf, source: PackageError },
    #[error("collect the modules of kernel {version}")]
    Modules { version: String, source: ModulesError },
    #[error("download a kernel package")]
    Fetch(#[from] FetchError),
    #[error("write kernel {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// The kernel at `path`: by the manifest beside it, or by what the file itself shows.
pub fn open(path: &Path) -> Result<Kernel, KernelError> {
    let failed = |source| KernelError::Read { path: path.to_owned(), source };
    // The manifest of a kernel behind a link lies beside the kernel.
    let path = fs::canonicalize(path).map_err(failed)?;
    let Some(manifest) = Manifest::beside(&path)? else {
        return custom(path);
    };
    inspect::format(&path)?;
    let kernel = manifest.kernel(&path);
    match &kernel.modules {
        Some(modules) if !modules.is_file() => {
            let modules = modules.clone();
            Err(KernelError::NoModules { path: kernel.path, modules })
        }
        _ => Ok(kernel),
    }
}

fn custom(path: PathBuf) -> Result<Kernel, KernelError> {
    let found = inspect(&path)?;
    Ok(Kernel {
        path,
        version: found.version.unwrap_or_else(|| "unknown".to_owned()),
        flavour: Flavour::Custom,
        acpi: !found.devices_on_command_line,
        args: String::new(),
        modules: None,
    })
}
