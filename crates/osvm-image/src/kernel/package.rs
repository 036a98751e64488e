//! Debian packages with a kernel: it,
//! its modules and the list of what is built in are unpacked; everything else is passed over. All
//! sizes and counts are bounded: a package is a stranger's until its sum has been compared.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use thiserror::Error;

use crate::deb::{self, Ration};

/// Why a package gives no kernel.
#[derive(Debug, Error)]
pub enum PackageError {
    #[error("it can't be read")]
    Read(#[source] io::Error),
    #[error("it is no Debian package: it has no data.tar")]
    NoData,
    #[error("it holds no boot/vmlinuz-*")]
    NoKernel,
    #[error("its file {name} has {size} bytes")]
    Size { name: String, size: u64 },
    #[error("it holds more than {MAX_FILES} files")]
    TooMany,
    #[error("write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What a package with the rest of a kernel is called, before the kernel's name.
const PARTS: [&str; 2] = ["linux-modules-", "linux-binary-"];
/// Four times what the distributions' largest kernel packages unpack to.
const MAX_UNPACKED: u64 = 2 << 30;
/// More than any kernel or module has.
const MAX_FILE: u64 = 256 << 20;
/// Several times what the distributions' largest kernel packages hold.
const MAX_FILES: usize = 32 * 1024;
/// Folders on the way to a file; the distributions' kernels have ten at most.
const MAX_DEPTH: usize = 24;

/// Is given a file's name, content and size.
type Visit<'a> = dyn FnMut(&str, &mut dyn Read, u64) -> Result<(), PackageError> + 'a;

/// A kernel out of a package.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) vmlinuz: PathBuf,
    /// Folder of its modules, named like its version.
    pub(super) modules: PathBuf,
}

/// Unpacks the kernel in `package`, and in the packages beside it with the rest of the same kernel,
/// into the empty folder `into`.
pub(super) fn unpack(package: &Path, into: &Path) -> Result<Unpacked, PackageError> {
    let mut version = None;
    for package in std::iter::once(package.to_owned()).chain(parts(package)) {
        let file = File::open(&package).map_err(PackageError::Read)?;
        each(BufReader::new(file), &mut |name, content, size| {
            let Some(target) = target(name, into) else { return Ok(()) };
            version =
                version.take().or_else(|| name.strip_prefix("boot/vmlinuz-").map(str::to_owned));
            write(name, content, size, &target)
        })?;
    }
    let version = version.ok_or(PackageError::NoKernel)?;
    Ok(Unpacked {
        vmlinuz: into.join("boot").join(format!("vmlinuz-{version}")),
        modules: into.join("modules").join(version),
    })
}

/// Packages of the same kernel in the same version: the rest of the name is the same.
fn parts(package: &Path) -> Vec<PathBuf> {
    let name = package.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Some(rest) = name.strip_prefix("linux-image-") else { return Vec::new() };
    let rest = rest.strip_prefix("unsigned-").unwrap_or(rest);
    let parts = PARTS.map(|part| package.with_file_name(format!("{part}{rest}")));
    parts.into_iter().filter(|path| path.is_file()).collect()
}

/// Visits the regular files of a package, by names without a leading `/`, `./` or `usr/`.
pub(super) fn each(package: impl Read, visit: &mut Visit<'_>) -> Result<(), PackageError> {
    let data = deb::files(package).map_err(PackageError::Read)?.ok_or(PackageError::NoData)?;
    each_file(data.take(MAX_UNPACKED), visit)
}

fn each_file(data: impl Read, visit: &mut Visit<'_>) -> Result<(), PackageError> {
    let ration = Ration::new();
    let mut archive = tar::Archive::new(ration.of(data));
    for (count, entry) in archive.entries().map_err(PackageError::Read)?.enumerate() {
        if count == MAX_FILES {
            return Err(PackageError::TooMany);
        }
        let mut entry = entry.map_err(PackageError::Read)?;
        ration.grant(entry.size());
        let name = plain(&entry.path().map_err(PackageError::Read)?);
        let (regular, size) = (entry.header().entry_type().is_file(), entry.size());
        if let (true, Some(name)) = (regular, name) {
            visit(name.strip_prefix("usr/").unwrap_or(&name), &mut entry, size)?;
        }
    }
    Ok(())
}

/// `None` for a path that leaves the root, is no text, or lies too deep.
fn plain(path: &Path) -> Option<String> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir | Component::RootDir => {}
            Component::Normal(name) => names.push(name.to_str()?),
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    (names.len() <= MAX_DEPTH).then(|| names.join("/"))
}

/// Where a file goes, if it is wanted at all.
pub(super) fn target(name: &str, into: &Path) -> Option<PathBuf> {
    if name.strip_prefix("boot/vmlinuz-").is_some_and(|version| !version.contains('/')) {
        return Some(into.join(name));
    }
    let module = name.rsplit('/').next()?.contains(".ko");
    let wanted = module || name.ends_with("/modules.builtin");
    let rest = name.strip_prefix("lib/modules/").filter(|_| wanted)?;
    Some(into.join("modules").join(rest))
}

fn write(name: &str, content: &mut dyn Read, size: u64, to: &Path) -> Result<(), PackageError> {
    check_size(name, size)?;
    let mut bytes = Vec::new();
    content.take(MAX_FILE).read_to_end(&mut bytes).map_err(PackageError::Read)?;
    let folder = to.parent().unwrap_or(to);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(to, bytes));
    written.map_err(|source| PackageError::Write { path: to.to_owned(), source })
}

pub(super) fn check_size(name: &str, size: u64) -> Result<(), PackageError> {
    if size > MAX_FILE {
        return Err(PackageError::Size { name: name.to_owned(), size });
    }
    Ok(())
}

/// Small packages for the tests of this folder.
#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::deb::tests::archive;
    use crate::decompress::tests::gzip;

    /// A package of the given files.
    pub(in crate::kernel) fn package(files: &[(&str, &[u8])]) -> Vec<u8> {
        outer(&gzip(&files.iter().flat_map(|(name, bytes)| entry(name, bytes)).collect::<Vec<_>>()))
    }

    fn outer(data: &[u8]) -> Vec<u8> {
        archive(&[("debian-binary", b"2.0\n"), ("data.tar.gz", data)])
    }

    /// Written by hand, since the library writes no names that leave the root.
    fn entry(name: &str, bytes: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let mut entry = [header.as_bytes().as_slice(), bytes].concat();
        entry.resize(entry.len().next_multiple_of(512), 0);
        entry
    }

    fn unpacked(bytes: &[u8]) -> (tempfile::TempDir, Result<Unpacked, PackageError>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("linux-image-1_1_amd64.deb");
        fs::write(&path, bytes).unwrap();
        let unpacked = unpack(&path, &folder.path().join("into"));
        (folder, unpacked)
    }

    #[test]
    fn only_what_is_wanted_is_unpacked() {
        let bytes = package(&[
            ("./boot/vmlinuz-1", b"kernel"),
            ("./boot/config-1", b"y"),
            ("./usr/lib/modules/1/kernel/a.ko.xz", b"a"),
            ("./lib/modules/1/modules.builtin", b"b"),
        ]);
        let (folder, unpacked) = unpacked(&bytes);
        let unpacked = unpacked.unwrap();
        assert_eq!(fs::read(unpacked.vmlinuz).unwrap(), b"kernel");
        assert_eq!(fs::read(unpacked.modules.join("kernel/a.ko.xz")).unwrap(), b"a");
        assert_eq!(fs::read(unpacked.modules.join("modules.builtin")).unwrap(), b"b");
        assert!(!folder.path().join("into/boot/config-1").exists());
    }

    #[test]
    fn the_modules_package_beside_it_belongs_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("linux-image-1_1_amd64.deb"), package(&[("boot/vmlinuz-1", b"k")])).unwrap();
        let modules = package(&[("lib/modules/1/kernel/a.ko", b"a")]);
        fs::write(path("linux-modules-1_1_amd64.deb"), modules).unwrap();
        let unpacked = unpack(&path("linux-image-1_1_amd64.deb"), &path("into")).unwrap();
        assert!(unpacked.modules.join("kernel/a.ko").is_file());
    }

    #[test]
    fn names_that_leave_the_folder_are_passed_over() {
        let bytes = package(&[
            ("boot/vmlinuz-1", b"k"),
            ("lib/modules/../../../../escaped.ko", b"x"),
            ("boot/vmlinuz-2/../../../escaped.ko", b"x"),
        ]);
        let (folder, unpacked) = unpacked(&bytes);
        unpacked.unwrap();
        let escaped = |entry: &walkdir::DirEntry| entry.file_name() == "escaped.ko";
        assert!(!walkdir::WalkDir::new(folder.path()).into_iter().flatten().any(|e| escaped(&e)));
    }

    #[test]
    fn a_huge_size_costs_nothing() {
        let mut huge = entry("boot/vmlinuz-1", b"k");
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes().copy_from_slice(&huge[..512]);
        header.set_size(1 << 40);
        header.set_cksum();
        huge[..512].copy_from_slice(header.as_bytes());
        let (_folder, refused) = unpacked(&outer(&gzip(&huge)));
        assert!(matches!(refused, Err(PackageError::Size { .. })), "{refused:?}");
    }

    #[test]
    fn more_files_than_any_kernel_has_are_refused() {
        let entry = entry("x", b"");
        let each = |count| each_file(entry.repeat(count).as_slice(), &mut |_, _, _| Ok(()));
        each(MAX_FILES).unwrap();
        assert!(matches!(each(MAX_FILES + 1), Err(PackageError::TooMany)));
    }

    #[test]
    fn a_file_too_deep_is_passed_over() {
        let deep = format!("lib/modules/{}a.ko", "x/".repeat(MAX_DEPTH));
        let bytes = package(&[("boot/vmlinuz-1", b"k"), (&deep, b"a")]);
        let (folder, unpacked) = unpacked(&bytes);
        unpacked.unwrap();
        assert!(!folder.path().join("into/modules/x").exists());
    }

    #[test]
    fn a_name_of_megabytes_is_refused() {
        let mut long = entry("././@LongLink", &vec![b'a'; 8 << 20]);
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes().copy_from_slice(&long[..512]);
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_cksum();
        long[..512].copy_from_slice(header.as_bytes());
        long.extend(entry("boot/vmlinuz-1", b"k"));
        let (_folder, refused) = unpacked(&outer(&gzip(&long)));
        assert!(matches!(refused, Err(PackageError::Read(_))), "{refused:?}");
    }

    #[test]
    fn a_cut_package_and_one_without_a_kernel_are_refused() {
        let whole = package(&[("boot/vmlinuz-1", &[7; 3000])]);
        for length in (0..whole.len()).step_by(5) {
            assert!(unpacked(&whole[..length]).1.is_err(), "{length} of {} bytes", whole.len());
        }
        let (_folder, refused) = unpacked(&package(&[("usr/share/doc/x", b"y")]));
        assert!(matches!(refused, Err(PackageError::NoKernel)), "{refused:?}");
    }
}
