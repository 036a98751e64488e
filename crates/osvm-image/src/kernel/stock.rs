//! A distribution's kernel as it is, with modules of the caller's choice: for a machine that is no
//! guest of osvm, such as the one in which the project's own tests find a KVM.

use std::fs;
use std::path::{Path, PathBuf};

use super::{KernelError, fetch, modules, package};
use crate::files;

/// A kernel that its own boot loader or VMM unpacks, and the modules to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stock {
    pub vmlinuz: PathBuf,
    /// Archive of the modules (`/.osvm/modules/NN-name.ko`), numbered in the order of loading.
    pub modules: PathBuf,
}

/// Brings the kernel that the first known of `metapackages` needs into `folder`: downloaded without
/// root, the package not kept. Every one of the `names` must be there, as a module or built in.
pub fn stock(metapackages: &[&str], names: &[&str], folder: &Path) -> Result<Stock, KernelError> {
    let failed = |source| KernelError::Write { path: folder.to_owned(), source };
    files::make_folder(folder).map_err(failed)?;
    let work = tempfile::tempdir_in(folder).map_err(failed)?;
    let package = fetch::fetch_newest(metapackages, work.path())?;
    unpack(&package, names, work.path(), folder)
}

fn unpack(package: &Path, names: &[&str], work: &Path, into: &Path) -> Result<Stock, KernelError> {
    let unpacked = package::unpack(package, work)
        .map_err(|source| KernelError::Package { path: package.to_owned(), source })?;
    let version = unpacked.modules.file_name().unwrap_or_default().to_string_lossy();
    let chosen = modules::choose(&unpacked.modules, &version, names, &[])
        .map_err(|source| KernelError::Modules { version: version.to_string(), source })?;
    let kernel = Stock { vmlinuz: into.join("vmlinuz"), modules: into.join("modules.cpio") };
    let written = files::write_whole(&kernel.modules, |out| modules::archive(&chosen, out))
        .and_then(|()| fs::rename(&unpacked.vmlinuz, &kernel.vmlinuz));
    written.map_err(|source| KernelError::Write { path: into.to_owned(), source })?;
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::module;
    use super::super::package::tests::package;
    use super::*;

    fn unpacked(names: &[&str]) -> (tempfile::TempDir, Result<Stock, KernelError>) {
        let folder = tempfile::tempdir().unwrap();
        let deb = folder.path().join("linux-image-1_1_amd64.deb");
        let kvm = module(&["depends=", "vermagic=1 SMP"]);
        let amd = module(&["depends=kvm", "vermagic=1 SMP"]);
        let files = [
            ("boot/vmlinuz-1", b"kernel".as_slice()),
            ("lib/modules/1/kernel/kvm-amd.ko", &amd),
            ("lib/modules/1/kernel/kvm.ko", &kvm),
        ];
        fs::write(&deb, package(&files)).unwrap();
        let work = folder.path().join("work");
        let stock = unpack(&deb, names, &work, folder.path());
        (folder, stock)
    }

    #[test]
    fn the_kernel_stays_as_it_is_and_the_modules_come_in_order() {
        let (_folder, stock) = unpacked(&["kvm_amd"]);
        let stock = stock.unwrap();
        assert_eq!(fs::read(stock.vmlinuz).unwrap(), b"kernel");
        let archive = fs::read(stock.modules).unwrap();
        let at = |name: &str| archive.windows(name.len()).position(|part| part == name.as_bytes());
        assert!(at("00-kvm.ko").unwrap() < at("01-kvm_amd.ko").unwrap());
    }

    #[test]
    fn a_kernel_without_one_of_the_modules_is_refused_by_its_name() {
        let (folder, refused) = unpacked(&["kvm_amd", "9p"]);
        assert!(matches!(refused, Err(KernelError::Modules { .. })), "{refused:?}");
        assert!(!folder.path().join("vmlinuz").exists());
    }
}
