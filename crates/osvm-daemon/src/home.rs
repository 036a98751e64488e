//! Where one user's osvm keeps its files: `$OSVM_HOME` and the runtime directory.

use std::path::{Path, PathBuf};

/// The two folders everything else hangs from. Both come from the front door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    runtime_dir: PathBuf,
}

impl Home {
    /// `root` is `$OSVM_HOME`, `runtime_dir` holds a folder for each running VM; both absolute.
    pub fn new(root: PathBuf, runtime_dir: PathBuf) -> Self {
        Self { root, runtime_dir }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn runtime_dir(&self) -> &Path {
        &self.runtime_dir
    }

    pub fn config(&self) -> PathBuf {
        self.root.join("isolation_config.toml")
    }

    /// What was accepted of each server.
    pub fn lock_file(&self) -> PathBuf {
        self.root.join("osvm.lock")
    }

    /// Folder of the socket and the lock; mode 0700.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    pub fn socket(&self) -> PathBuf {
        self.run().join("osvm.sock")
    }

    /// Held by the one daemon of this home while it lives.
    pub fn lock(&self) -> PathBuf {
        self.run().join("daemon.lock")
    }

    pub fn daemon_log(&self) -> PathBuf {
        self.run().join("daemon.log")
    }

    /// Folder of the default kernel, its manifest and its modules.
    pub fn kernel_dir(&self) -> PathBuf {
        self.root.join("kernel")
    }

    pub fn default_kernel(&self) -> PathBuf {
        self.kernel_dir().join("vmlinux.bin")
    }

    pub fn default_rootfs(&self) -> PathBuf {
        self.root.join("rootfs").join("mcp-server.cpio")
    }

    pub fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// Assembled initramfs files, by content.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// What servers have said of themselves.
    pub fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// How long parts of builds took here.
    pub fn build_times(&self) -> PathBuf {
        self.cache().join("build-times.json")
    }

    /// What clients of the gateway show; mode 0600.
    pub fn gateway_token(&self) -> PathBuf {
        self.root.join("gateway.token")
    }

    /// Logs of VMs that have stopped: one folder a server, one inside it a VM.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The record of tool calls.
    pub fn audit(&self) -> PathBuf {
        self.logs().join("audit.jsonl")
    }
}
