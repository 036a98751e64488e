//! What was asked: everything a VMM needs to know to run one guest.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use osvm_spec::{CpuTemplate, Resources};

use crate::jail::Shares;
use crate::{VmmError, memory_limit_bytes};

/// One guest, as asked for. Paths are absolute; `dir` and `logs` exist and belong to this machine
/// alone.
#[derive(Debug, Clone)]
pub struct Machine {
    pub id: String,
    /// Run directory: sockets go here, so its path has at most [`Machine::MAX_DIR`] bytes.
    pub dir: PathBuf,
    /// Directory for `console.log` and `vmm.log`.
    pub logs: PathBuf,
    pub kernel: Kernel,
    /// Cpio archive holding the agent at `/.osvm/agent`.
    pub initramfs: PathBuf,
    /// Read-only root disk, seen by the guest as `/dev/vda`. Without one the initramfs is the root.
    pub disk: Option<PathBuf>,
    pub resources: Resources,
    /// Followed by Firecracker alone.
    pub cpu_template: CpuTemplate,
    /// Ports on which the guest may open streams to the host
    /// ([`Link::accept`](crate::Link::accept)). Any other is refused.
    pub guest_ports: Vec<u32>,
}

/// A guest kernel and how it wants to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// ELF `vmlinux` or bzImage, as the driver can load.
    pub path: PathBuf,
    pub boot: BootProtocol,
    /// What this kernel wants on its command line besides what osvm puts there.
    pub args: String,
}

/// What a VMM must offer for a kernel to come up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootProtocol {
    /// The kernel finds its devices by ACPI (distribution kernels), not on its command line (the
    /// lean one).
    pub acpi: bool,
}

impl Machine {
    /// Longest path of a run directory, in bytes: a Unix socket's path has at most 107, and the
    /// longest name in there is `/vmm/v.sock_` with a port of ten digits.
    pub const MAX_DIR: usize = 107 - 22;

    /// What of the host it can take, with its VMM.
    pub(crate) fn shares(&self, accelerator: &str) -> Shares {
        let memory_bytes = memory_limit_bytes(self.resources, accelerator);
        Shares { memory_bytes, processors: self.resources.vcpus().into() }
    }

    pub(crate) fn check_dir(&self) -> Result<(), VmmError> {
        let length = self.dir.as_os_str().len();
        if length <= Self::MAX_DIR {
            return Ok(());
        }
        Err(VmmError::PathTooLong { dir: self.dir.clone(), length, limit: Self::MAX_DIR })
    }

    /// The kernel command line: `driver` is what the VMM adds. It never carries user data.
    pub(crate) fn command_line(&self, driver: &str) -> String {
        let root = if self.disk.is_some() { "disk" } else { "initramfs" };
        let ours = format!("console=ttyS0 quiet panic=-1 rdinit=/.osvm/agent osvm.root={root}");
        [ours.as_str(), driver, self.kernel.args.trim()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

/// Opens a file that a VMM will read. Only a regular one: opening a pipe, say, could wait for ever
/// later.
pub(crate) fn open_input(act: &'static str, path: &Path) -> Result<OwnedFd, VmmError> {
    let error = |source| VmmError::File { act, path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(error)?;
    if !metadata.is_file() {
        return Err(error(io::Error::other("not a regular file")));
    }
    Ok(File::open(path).map_err(error)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            id: "one".to_owned(),
            dir: "/run/one".into(),
            logs: "/run/one/logs".into(),
            kernel: Kernel {
                path: "/k".into(),
                boot: BootProtocol::default(),
                args: " quiet=2 ".to_owned(),
            },
            initramfs: "/i".into(),
            disk: None,
            resources: Resources::default(),
            cpu_template: CpuTemplate::default(),
            guest_ports: Vec::new(),
        }
    }

    #[test]
    fn the_command_line_says_where_the_root_is_and_ends_with_what_the_kernel_wants() {
        let mut machine = machine();
        let common = "console=ttyS0 quiet panic=-1 rdinit=/.osvm/agent";
        let line = format!("{common} osvm.root=initramfs reboot=t quiet=2");
        assert_eq!(machine.command_line("reboot=t"), line);
        machine.disk = Some("/disk".into());
        machine.kernel.args.clear();
        assert_eq!(machine.command_line(""), format!("{common} osvm.root=disk"));
    }

    #[test]
    fn a_run_directory_whose_sockets_would_not_fit_is_refused() {
        let mut machine = machine();
        machine.dir = format!("/{}", "x".repeat(Machine::MAX_DIR - 1)).into();
        assert!(machine.check_dir().is_ok());
        machine.dir.as_mut_os_string().push("x");
        assert!(matches!(machine.check_dir(), Err(VmmError::PathTooLong { length: 86, .. })));
    }

    #[test]
    fn only_regular_files_are_input() {
        let dir = tempfile::tempdir().unwrap();
        let error = open_input("open kernel", dir.path()).unwrap_err();
        assert_eq!(error.to_string(), format!("open kernel {}", dir.path().display()));
        assert!(open_input("open kernel", &dir.path().join("none")).is_err());
        std::fs::write(dir.path().join("some"), "").unwrap();
        assert!(open_input("open kernel", &dir.path().join("some")).is_ok());
    }
}
