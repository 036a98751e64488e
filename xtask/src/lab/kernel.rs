//! The lab's kernel: the distribution's generic one, which has KVM and 9p, kept outside the checkout.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use osvm_image::kernel::{Stock, stock};

/// Packages that depend on a generic kernel: Debian 12's newer one, which has more of Landlock, Debian's,
/// Ubuntu's. Their kernels for virtual machines lack 9p or KVM.
const PACKAGES: [&str; 3] = ["linux-image-6.12-amd64", "linux-image-amd64", "linux-image-generic"];

/// What the lab's devices and file systems need, each with all that it depends on.
const MODULES: [&str; 6] =
    ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay", "kvm_amd"];

/// Raised when the same package gives other files than before.
const RECIPE: u32 = 2;

/// The kernel that was kept, or the one that is now downloaded.
pub(super) fn get() -> Result<Stock> {
    let cache = crate::cache::folder("lab")?;
    let folder = cache.join(format!("kernel-{RECIPE}"));
    fs::create_dir_all(&cache).with_context(|| format!("create {}", cache.display()))?;
    let lock = File::create(cache.join("lock")).context("create the cache's lock file")?;
    lock.lock().context("lock the cache")?;
    if let Some(kept) = kept(&folder) {
        return Ok(kept);
    }
    eprintln!("lab: downloading the distribution's kernel");
    stock(&PACKAGES, &MODULES, &folder)
        .context("bring the lab's kernel\nhint: apt-get update, then try again")
}

/// The kernel comes last of its files.
fn kept(folder: &Path) -> Option<Stock> {
    let stock = Stock { vmlinuz: folder.join("vmlinuz"), modules: folder.join("modules.cpio") };
    stock.vmlinuz.is_file().then_some(stock)
}
