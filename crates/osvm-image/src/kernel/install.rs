//! Lays a kernel down where the VMMs take it from.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tempfile::NamedTempFile;

use super::manifest::{self, Manifest};
use super::{Flavour, Found, Kernel, KernelError, inspect, modules, package};
use crate::files;

const KERNEL: &str = "vmlinux.bin";
const MODULES: &str = "modules.cpio";
/// Raised when the same kernel gives other files than before.
const RECIPE: u32 = 1;

/// Everything to be written.
struct Laid {
    manifest: Manifest,
    vmlinux: Vec<u8>,
    modules: Option<Vec<u8>>,
}

/// Lays a kernel down in `into`: `vmlinux.bin`, `kernel.json` and, where needed, `modules.cpio`.
/// Nothing there changes until all of it is on disk. Does nothing when the same kernel is there.
pub fn install(found: &Found, into: &Path) -> Result<Kernel, KernelError> {
    let path = into.join(KERNEL);
    let made_from = fingerprint(main_file(found))?;
    if let Some(kernel) = installed(&path, &made_from) {
        return Ok(kernel);
    }
    let mut laid = match found {
        Found::Lean(image) => lean(image)?,
        Found::Host { vmlinuz, modules } => distribution(vmlinuz, modules)?,
        Found::Package(package) => unpacked(package, into)?,
    };
    laid.manifest.made_from = Some(made_from);
    write(&laid, into).map_err(|source| KernelError::Write { path: path.clone(), source })?;
    super::open(&path)
}

fn main_file(found: &Found) -> &Path {
    match found {
        Found::Lean(path) | Found::Host { vmlinuz: path, .. } | Found::Package(path) => path,
    }
}

/// Changes with the source and with what is made of it.
fn fingerprint(path: &Path) -> Result<String, KernelError> {
    let failed = |source| KernelError::Read { path: path.to_owned(), source };
    let meta = fs::metadata(path).map_err(failed)?;
    let changed = format!("{}.{:09}", meta.mtime(), meta.mtime_nsec());
    Ok(format!("{RECIPE} {} {changed} {}", meta.len(), path.display()))
}

fn installed(path: &Path, made_from: &str) -> Option<Kernel> {
    let manifest = Manifest::beside(path).ok()??;
    let same = manifest.made_from.as_deref() == Some(made_from);
    same.then(|| super::open(path).ok()).flatten()
}

/// A lean kernel without a manifest is still one: it is looked for where those are built.
fn lean(image: &Path) -> Result<Laid, KernelError> {
    let known = super::open(image)?;
    let vmlinux = inspect::vmlinux(image)?;
    let manifest = Manifest {
        flavour: Flavour::Lean,
        acpi: known.acpi && known.flavour != Flavour::Custom,
        args: known.args,
        ..manifest(known.version, &vmlinux)
    };
    Ok(Laid { manifest, vmlinux, modules: None })
}

/// The package is unpacked where there is room for the result, too.
fn unpacked(package: &Path, into: &Path) -> Result<Laid, KernelError> {
    let failed = |source| KernelError::Write { path: into.to_owned(), source };
    files::make_folder(into).map_err(failed)?;
    let work = tempfile::tempdir_in(into).map_err(failed)?;
    let unpacked = package::unpack(package, work.path())
        .map_err(|source| KernelError::Package { path: package.to_owned(), source })?;
    distribution(&unpacked.vmlinuz, &unpacked.modules)
}

/// The folder of a kernel's modules is named like its version.
fn distribution(vmlinuz: &Path, folder: &Path) -> Result<Laid, KernelError> {
    let version = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let failed = |source| KernelError::Modules { version: version.clone(), source };
    let collected = modules::collect(folder, &version).map_err(failed)?;
    let mut archive = Vec::new();
    modules::archive(&collected, &mut archive)
        .map_err(|source| KernelError::Write { path: MODULES.into(), source })?;
    let vmlinux = inspect::vmlinux(vmlinuz)?;
    let modules = (!collected.is_empty()).then_some(archive);
    let manifest = Manifest {
        modules: modules.is_some().then(|| MODULES.to_owned()),
        ..manifest(version, &vmlinux)
    };
    Ok(Laid { manifest, vmlinux, modules })
}

/// What holds for a distribution's kernel, which finds its devices by ACPI.
fn manifest(version: String, vmlinux: &[u8]) -> Manifest {
    Manifest {
        format: manifest::FORMAT,
        version,
        flavour: Flavour::Distribution,
        acpi: true,
        args: String::new(),
        file: Some(KERNEL.to_owned()),
        size: Some(vmlinux.len() as u64),
        modules: None,
        made_from: None,
    }
}

/// All files are on disk before the first gets its name. The manifest comes last: between the two
/// the old one does not fit the new kernel's size, and is not believed.
fn write(laid: &Laid, into: &Path) -> io::Result<()> {
    files::make_folder(into)?;
    let modules = laid.modules.as_deref().map(|bytes| temporary(into, bytes)).transpose()?;
    let vmlinux = temporary(into, &laid.vmlinux)?;
    let manifest = temporary(into, &serde_json::to_vec_pretty(&laid.manifest)?)?;
    match modules {
        Some(modules) => files::persist(modules, &into.join(MODULES))?,
        None => remove(&into.join(MODULES))?,
    }
    files::persist(vmlinux, &into.join(KERNEL))?;
    files::persist(manifest, &into.join(manifest::FILE))?;
    fs::File::open(into)?.sync_all()
}

fn temporary(into: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = NamedTempFile::new_in(into)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bzimage::tests::bzimage;
    use super::super::elf::tests::{kernel, module};
    use super::super::modules::tests::{BUILTIN, write_folder};
    use super::super::package::tests::package;
    use super::*;
    use crate::decompress::tests::gzip;

    fn files(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn deb(folder: &Path, vmlinux: &[u8]) -> Found {
        let path = folder.join("linux-image-1.2_1_amd64.deb");
        let builtin: String = BUILTIN.map(|name| format!("kernel/x/{name}.ko\n")).concat();
        let module = module(&["depends=", "vermagic=1.2 SMP"]);
        let files: [(&str, &[u8]); 4] = [
            ("./boot/vmlinuz-1.2", &bzimage(&gzip(vmlinux))),
            ("./lib/modules/1.2/modules.builtin", builtin.as_bytes()),
            ("./lib/modules/1.2/kernel/virtio_mmio.ko", &module),
            ("./lib/modules/1.2/kernel/virtio_blk.ko", &module),
        ];
        fs::write(&path, package(&files)).unwrap();
        Found::Package(path)
    }

    #[test]
    fn a_package_becomes_a_kernel_with_its_modules() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("kernel");
        let vmlinux = kernel(b"code", true);
        let installed = install(&deb(folder.path(), &vmlinux), &into).unwrap();
        assert_eq!(files(&into), ["kernel.json", "modules.cpio", "vmlinux.bin"]);
        assert_eq!(fs::read(into.join(KERNEL)).unwrap(), vmlinux);
        assert_eq!((installed.version.as_str(), installed.acpi), ("1.2", true));
        assert_eq!(installed.flavour, Flavour::Distribution);
        assert!(installed.modules.as_ref().unwrap().ends_with(MODULES));
        assert_eq!(super::super::open(&into.join(KERNEL)).unwrap(), installed);
    }

    #[test]
    fn the_same_again_is_left_alone_and_another_replaces_all() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("kernel");
        let found = deb(folder.path(), &kernel(b"code", true));
        let inode = || fs::metadata(into.join(KERNEL)).unwrap().ino();
        install(&found, &into).unwrap();
        let first = inode();
        install(&found, &into).unwrap();
        assert_eq!(inode(), first);
        let lean = folder.path().join("vmlinux");
        fs::write(&lean, kernel(b"Linux version 9.9 lean", true)).unwrap();
        let installed = install(&Found::Lean(lean), &into).unwrap();
        assert_eq!((installed.flavour, installed.acpi), (Flavour::Lean, false));
        assert_eq!(files(&into), ["kernel.json", "vmlinux.bin"]);
    }

    #[test]
    fn a_failure_leaves_the_earlier_kernel_whole() {
        let folder = tempfile::tempdir().unwrap();
        let into = folder.path().join("kernel");
        let before = install(&deb(folder.path(), &kernel(b"code", true)), &into).unwrap();
        let modules = folder.path().join("1.2");
        write_folder(&modules, &[("virtio_mmio.ko", ""), ("virtio_blk.ko", "")], &BUILTIN);
        let vmlinuz = folder.path().join("vmlinuz-1.2");
        fs::write(&vmlinuz, bzimage(&gzip(b"no kernel"))).unwrap();
        install(&Found::Host { vmlinuz, modules }, &into).unwrap_err();
        assert_eq!(super::super::open(&into.join(KERNEL)).unwrap(), before);
        assert_eq!(files(&into).len(), 3);
    }
}
