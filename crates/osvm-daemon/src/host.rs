//! What the daemon is told about the machine it runs on; nothing here is guessed from the environment.

use std::ffi::OsString;
use std::path::PathBuf;

use osvm_fleet::drivers::{HostFacts, Jail, Kvm, Programs};

/// The host as the front door sees it.
#[derive(Debug, Clone)]
pub struct Host {
    /// `PATH`, to find VMMs.
    pub path: OsString,
    /// Where VMMs are looked for before `PATH`: the folder that setup downloads one into.
    pub own_programs: Option<PathBuf>,
    /// The user's home, which `~` stands for in the configuration.
    pub user_home: Option<PathBuf>,
    /// Where the host's package caches and kernels are kept: `$XDG_CACHE_HOME` or `~/.cache`.
    pub user_cache: Option<PathBuf>,
    pub proc: PathBuf,
    pub kvm: PathBuf,
    /// The osvm executable: the shim that VMMs are started through.
    pub shim: PathBuf,
}

impl Host {
    pub(crate) fn facts(&self) -> HostFacts {
        HostFacts { cpuinfo: self.proc.join("cpuinfo"), kvm: self.kvm.clone() }
    }

    /// Whether VMs run without KVM.
    pub(crate) fn is_emulated(&self) -> bool {
        self.facts().kvm() != Kvm::Usable
    }

    pub(crate) async fn jail(&self) -> Jail {
        Jail::of_host(&self.shim, &self.proc).await
    }

    pub(crate) fn programs(&self) -> Programs {
        Programs::find(self.own_programs.as_deref(), &self.path)
    }
}
