//! What a kernel can be made from, of all that is already on this machine.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::{inspect, modules};

/// A place a kernel can be installed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A lean kernel's image.
    Lean(PathBuf),
    /// A kernel of the host's own distribution: its `vmlinuz` and its modules' folder.
    Host { vmlinuz: PathBuf, modules: PathBuf },
    /// A Debian kernel package; where its modules are a package of their own, that lies beside it.
    Package(PathBuf),
}

/// Where to look for kernels.
#[derive(Debug, Clone)]
pub struct Places {
    /// Files that may be lean kernels, best first.
    pub lean: Vec<PathBuf>,
    /// Folder of the host's kernels (`/boot`).
    pub boot: PathBuf,
    /// Folder of the host's modules (`/lib/modules`).
    pub modules: PathBuf,
    /// Folder where packages are downloaded to and kept.
    pub packages: PathBuf,
}

/// Everything usable that is already on this machine, best first. Downloads nothing.
///
/// A lean kernel starts fastest. A downloaded package was made for virtual machines, and the host's
/// own kernel was not.
pub fn find(places: &Places) -> Vec<Found> {
    let lean = places.lean.iter().filter(|path| inspect::format(path).is_ok()).cloned();
    let packages = named(&places.packages, "linux-image-").into_iter();
    let packages = packages.filter(|path| path.extension().is_some_and(|end| end == "deb"));
    let host = named(&places.boot, "vmlinuz-").into_iter();
    lean.map(Found::Lean)
        .chain(packages.map(Found::Package))
        .chain(host.filter_map(|vmlinuz| of_host(vmlinuz, &places.modules)))
        .collect()
}

/// A kernel counts only if this user may read it (Ubuntu's are root's alone) and it has what guests
/// need.
fn of_host(vmlinuz: PathBuf, modules: &Path) -> Option<Found> {
    let version = vmlinuz.file_name()?.to_str()?.strip_prefix("vmlinuz-")?;
    let modules = modules.join(version);
    File::open(&vmlinuz).ok()?;
    modules::suffices(&modules).then_some(Found::Host { vmlinuz, modules })
}

/// Files in `folder` whose names begin so, newest first.
pub(super) fn named(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
    };
    let mut found: Vec<_> = paths
        .filter(named)
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::super::elf::tests::kernel;
    use super::super::modules::tests::{BUILTIN, write_folder};
    use super::*;

    #[test]
    fn the_best_comes_first_and_the_unusable_not_at_all() {
        let machine = tempfile::tempdir().unwrap();
        let path = |name: &str| machine.path().join(name);
        for folder in ["boot", "packages", "modules/1"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        fs::write(path("lean"), kernel(b"code", true)).unwrap();
        for file in ["broken", "boot/vmlinuz-1", "boot/vmlinuz-2", "boot/initrd.img-1"] {
            fs::write(path(file), "x").unwrap();
        }
        fs::write(path("packages/linux-image-1_1_amd64.deb"), "x").unwrap();
        fs::write(path("packages/linux-image-1_1_amd64.deb.part"), "x").unwrap();
        write_folder(
            &path("modules/1"),
            &[("virtio_mmio.ko", ""), ("virtio_blk.ko", "")],
            &BUILTIN,
        );
        let places = Places {
            lean: vec![path("none"), path("broken"), path("lean")],
            boot: path("boot"),
            modules: path("modules"),
            packages: path("packages"),
        };
        let host = Found::Host { vmlinuz: path("boot/vmlinuz-1"), modules: path("modules/1") };
        let package = Found::Package(path("packages/linux-image-1_1_amd64.deb"));
        assert_eq!(find(&places), [Found::Lean(path("lean")), package, host]);
    }
}
