//! The modules that a guest needs, out of a folder as `/lib/modules/VERSION` is one: with all that
//! they depend on, in the order in which they load, decompressed, as an archive for the initramfs.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Cursor, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;
use walkdir::WalkDir;

use super::elf::{Elf, ElfError};
use crate::cpio::Writer;
use crate::decompress;

/// Why the modules can't be collected.
#[derive(Debug, Error)]
pub enum ModulesError {
    #[error("it has neither a module {0} nor that built in")]
    Missing(String),
    #[error("module {name} is of kernel {found}")]
    Version { name: String, found: String },
    #[error("they depend on more than {MAX_NAMES} others, or have over {MAX_TOTAL} bytes")]
    TooMany,
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("read module {}", path.display())]
    Elf { path: PathBuf, source: ElfError },
}

/// Without these no guest comes up: its devices, its link to the host, its root file system.
const NEEDED: [&str; 5] = ["virtio_mmio", "virtio_console", "virtio_blk", "squashfs", "overlay"];

/// Taken where the kernel has them.
const WELCOME: [&str; 6] =
    ["vmw_vsock_virtio_transport", "virtio_rng", "fuse", "erofs", "ext4", "virtio_balloon"];

/// The largest modules have a few MiB, with their symbols.
const MAX_MODULE: usize = 64 << 20;
/// Of all modules together; the distributions' need a tenth.
const MAX_TOTAL: usize = 128 << 20;
/// Modules name others, and those again others: about fifty in all, on the distributions' kernels.
const MAX_NAMES: usize = 512;

/// A module ready to load.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Module {
    name: String,
    bytes: Vec<u8>,
}

/// What an osvm guest needs of the modules of kernel `version` in `folder`, in the order of loading.
pub(super) fn collect(folder: &Path, version: &str) -> Result<Vec<Module>, ModulesError> {
    choose(folder, version, &NEEDED, &WELCOME)
}

/// The `needed` modules, and the `welcome` ones that there are, with all that they depend on.
pub(super) fn choose(
    folder: &Path,
    version: &str,
    needed: &[&str],
    welcome: &[&str],
) -> Result<Vec<Module>, ModulesError> {
    let mut collection = Collection::new(folder, version)?;
    for name in needed {
        collection.add(name, true)?;
    }
    for name in welcome {
        collection.add(name, false)?;
    }
    Ok(collection.modules)
}

/// Whether a kernel with modules in `folder` has all that is needed, by the names alone.
pub(super) fn suffices(folder: &Path) -> bool {
    let (available, builtin) = (available(folder), builtin(folder));
    NEEDED.iter().all(|name| available.contains_key(*name) || builtin.contains(*name))
}

/// The archive that puts them at `/.osvm/modules/NN-name.ko`.
pub(super) fn archive(modules: &[Module], out: &mut dyn Write) -> io::Result<()> {
    let mut writer = Writer::new(out);
    for folder in ["/.osvm", "/.osvm/modules"] {
        writer.folder(folder, 0o755)?;
    }
    for (index, module) in modules.iter().enumerate() {
        let path = format!("/.osvm/modules/{index:02}-{}.ko", module.name);
        writer.file(&path, 0o644, &module.bytes)?;
    }
    writer.finish().map(drop)
}

struct Collection<'a> {
    version: &'a str,
    available: HashMap<String, PathBuf>,
    builtin: HashSet<String>,
    seen: HashSet<String>,
    modules: Vec<Module>,
    bytes_left: usize,
}

impl<'a> Collection<'a> {
    fn new(folder: &Path, version: &'a str) -> Result<Self, ModulesError> {
        fs::read_dir(folder)
            .map_err(|source| ModulesError::Read { path: folder.to_owned(), source })?;
        Ok(Self {
            version,
            available: available(folder),
            builtin: builtin(folder),
            seen: HashSet::new(),
            modules: Vec::new(),
            bytes_left: MAX_TOTAL,
        })
    }

    /// Adds the module after everything that it depends on. Each name is looked at once, so names
    /// that depend on each other end, too.
    fn add(&mut self, name: &str, needed: bool) -> Result<(), ModulesError> {
        if self.builtin.contains(name) || !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        if self.seen.len() > MAX_NAMES {
            return Err(ModulesError::TooMany);
        }
        let Some(path) = self.available.get(name).cloned() else {
            return if needed { Err(ModulesError::Missing(name.to_owned())) } else { Ok(()) };
        };
        let bytes = read(&path)?;
        self.bytes_left = self.bytes_left.checked_sub(bytes.len()).ok_or(ModulesError::TooMany)?;
        let info = Info::of(&bytes).map_err(|source| ModulesError::Elf { path, source })?;
        if info.version.as_deref().is_some_and(|found| found != self.version) {
            let found = info.version.unwrap_or_default();
            return Err(ModulesError::Version { name: name.to_owned(), found });
        }
        for dependency in &info.depends {
            self.add(dependency, needed)?;
        }
        // Wished for at run time, as a checksum by its name: fine where it is missing.
        for wish in &info.before {
            self.add(wish, false)?;
            self.add(&format!("{wish}_generic"), false)?;
        }
        self.modules.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }
}

/// What a module says of itself in its section `.modinfo`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Info {
    depends: Vec<String>,
    /// `softdep=pre:`
    before: Vec<String>,
    /// The first word of `vermagic`.
    version: Option<String>,
}

impl Info {
    fn of(module: &[u8]) -> Result<Self, ElfError> {
        let section = Elf::open(Cursor::new(module))?.section(".modinfo")?.unwrap_or_default();
        let lines =
            section.split(|byte| *byte == 0).filter_map(|line| std::str::from_utf8(line).ok());
        let mut info = Self::default();
        for (key, value) in lines.filter_map(|line| line.split_once('=')) {
            match key {
                "depends" => info.depends.extend(value.split(',').filter_map(normal_name)),
                "softdep" => info.before.extend(before(value)),
                "vermagic" => info.version = value.split(' ').next().map(str::to_owned),
                _ => {}
            }
        }
        Ok(info)
    }
}

/// Reads what a module says of itself, for the fuzzing crate.
pub(super) fn info(module: &[u8]) {
    let _ = Info::of(module);
}

/// `pre: a b post: c` names a and b.
fn before(softdep: &str) -> impl Iterator<Item = String> {
    let words = softdep.split_whitespace().skip_while(|word| *word != "pre:").skip(1);
    words.take_while(|word| !word.ends_with(':')).filter_map(normal_name)
}

/// Files are called with `-` or `_`, and the kernel means the same.
fn normal_name(name: &str) -> Option<String> {
    Some(name.replace('-', "_")).filter(|name| !name.is_empty())
}

fn available(folder: &Path) -> HashMap<String, PathBuf> {
    let files = WalkDir::new(folder.join("kernel")).sort_by_file_name().into_iter().flatten();
    files.filter_map(|entry| Some((module_name(entry.path())?, entry.into_path()))).collect()
}

fn builtin(folder: &Path) -> HashSet<String> {
    let list = fs::read_to_string(folder.join("modules.builtin")).unwrap_or_default();
    list.lines().filter_map(|line| module_name(Path::new(line))).collect()
}

fn module_name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let ends = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];
    normal_name(ends.iter().find_map(|end| name.strip_suffix(end))?)
}

fn read(path: &Path) -> Result<Vec<u8>, ModulesError> {
    let failed = |source| ModulesError::Read { path: path.to_owned(), source };
    let bytes = fs::read(path).map_err(failed)?;
    decompress::decompress_bounded(&bytes, MAX_MODULE).map_err(failed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::elf::tests::module;
    use super::*;
    use crate::decompress::tests::gzip;

    /// A folder of modules: name of the file and what it depends on.
    pub(in crate::kernel) fn folder(files: &[(&str, &str)], builtin: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        write_folder(folder.path(), files, builtin);
        folder
    }

    pub(in crate::kernel) fn write_folder(folder: &Path, files: &[(&str, &str)], builtin: &[&str]) {
        for (name, depends) in files {
            let path = folder.join("kernel/drivers").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let bytes = module(&["license=GPL", depends, "vermagic=1.2 SMP mod_unload"]);
            let bytes = if name.ends_with(".gz") { gzip(&bytes) } else { bytes };
            fs::write(path, bytes).unwrap();
        }
        let lines: String = builtin.iter().map(|name| format!("kernel/x/{name}.ko\n")).collect();
        fs::write(folder.join("modules.builtin"), lines).unwrap();
    }

    pub(in crate::kernel) const BUILTIN: [&str; 4] =
        ["virtio_console", "vmw_vsock_virtio_transport", "squashfs", "overlay"];

    fn names(folder: &Path) -> Result<Vec<String>, ModulesError> {
        let modules = collect(folder, "1.2")?;
        Ok(modules.into_iter().map(|module| module.name).collect())
    }

    #[test]
    fn dependencies_come_first_whatever_their_spelling_and_once() {
        let files = [
            ("virtio_mmio.ko", "depends=virtio,virtio_ring"),
            ("virtio-blk.ko.gz", "depends=virtio_ring"),
            ("virtio.ko", "depends=virtio-ring"),
            ("virtio_ring.ko", "depends="),
            ("not_wanted.ko", "depends="),
        ];
        let folder = folder(&files, &BUILTIN);
        assert_eq!(
            names(folder.path()).unwrap(),
            ["virtio_ring", "virtio", "virtio_mmio", "virtio_blk"]
        );
    }

    #[test]
    fn soft_dependencies_are_taken_where_they_are() {
        let files = [
            ("virtio_mmio.ko", "softdep=pre: helper absent post: later"),
            ("virtio_blk.ko", ""),
            ("helper.ko", ""),
            ("later.ko", ""),
        ];
        let folder = folder(&files, &BUILTIN);
        assert_eq!(names(folder.path()).unwrap(), ["helper", "virtio_mmio", "virtio_blk"]);
    }

    #[test]
    fn a_circle_ends() {
        let files =
            [("virtio_mmio.ko", "depends=virtio_blk"), ("virtio_blk.ko", "depends=virtio_mmio")];
        assert_eq!(names(folder(&files, &BUILTIN).path()).unwrap(), ["virtio_blk", "virtio_mmio"]);
    }

    #[test]
    fn a_chain_without_end_and_more_than_guests_hold_are_refused() {
        let of_chain = |i: usize| (format!("m{i}.ko"), format!("depends=m{}", i + 1));
        let mut files: Vec<_> = (0..2 * MAX_NAMES).map(of_chain).collect();
        files.push(("virtio_mmio.ko".to_owned(), "depends=m0".to_owned()));
        let files: Vec<_> = files.iter().map(|(name, of)| (name.as_str(), of.as_str())).collect();
        let chain = folder(&files, &BUILTIN);
        assert!(matches!(names(chain.path()), Err(ModulesError::TooMany)));

        let files = [("virtio_mmio.ko", "depends=large,larger"), ("virtio_blk.ko", "")];
        let heavy = folder(&files, &BUILTIN);
        for name in ["large.ko", "larger.ko"] {
            let path = heavy.path().join("kernel/drivers").join(name);
            fs::write(&path, module(&[])).unwrap();
            fs::File::options().write(true).open(path).unwrap().set_len(MAX_MODULE as u64).unwrap();
        }
        assert!(matches!(names(heavy.path()), Err(ModulesError::TooMany)));
    }

    #[test]
    fn a_kernel_without_something_needed_is_refused_by_its_name() {
        let folder = folder(&[("virtio_mmio.ko", "")], &BUILTIN);
        assert!(!suffices(folder.path()));
        let refused = names(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("virtio_blk"), "{refused}");
    }

    #[test]
    fn modules_of_another_kernel_are_refused() {
        let folder = folder(&[("virtio_mmio.ko", ""), ("virtio_blk.ko", "")], &BUILTIN);
        assert!(suffices(folder.path()));
        let refused = collect(folder.path(), "6.6.6").unwrap_err().to_string();
        assert!(refused.contains("is of kernel 1.2"), "{refused}");
    }
}
