//! What a VMM's program needs of the host's files to run: itself, its libraries, its data.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Access, Lent};

/// Found once for a program, and used for every VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Its canonical path.
    pub(crate) program: PathBuf,
    /// Libraries and the loader's cache, as the loader names them.
    libraries: Vec<PathBuf>,
    /// With everything in them: firmware, modules.
    folders: Vec<PathBuf>,
}

/// The loader reads it if it is there.
const LOADER_CACHE: &str = "/etc/ld.so.cache";

impl Needs {
    /// Asks the loader which libraries the program has. `folders` that are not there are left out.
    /// Blocks.
    pub(crate) fn of(program: &Path, folders: &[PathBuf]) -> std::io::Result<Self> {
        let program = fs::canonicalize(program)?;
        let mut libraries = libraries(&said(&program, &["--version"], true)?);
        libraries.extend(Some(PathBuf::from(LOADER_CACHE)).filter(|cache| cache.is_file()));
        let folders = folders.iter().filter_map(|folder| fs::canonicalize(folder).ok());
        let folders: BTreeSet<_> = folders.collect();
        Ok(Self { program, libraries, folders: folders.into_iter().collect() })
    }

    pub(super) fn lent(&self) -> Vec<Lent> {
        let run = std::iter::once(&self.program).chain(&self.libraries).chain(&self.folders);
        run.map(|path| Lent::path(path, Access::Run)).collect()
    }

    /// The places that a file system must have for it: whole folders of libraries, since each place
    /// is a mount. No place lies in another.
    pub(super) fn places(&self) -> Vec<PathBuf> {
        let libraries = self.libraries.iter().filter(|path| *path != Path::new(LOADER_CACHE));
        let mut all: BTreeSet<PathBuf> = libraries.flat_map(|path| hops(path)).collect();
        all.extend(self.folders.iter().cloned());
        all.insert(self.program.clone());
        all.extend(self.libraries.iter().filter(|path| *path == Path::new(LOADER_CACHE)).cloned());
        let is_inside = |path: &Path| path.ancestors().skip(1).any(|folder| all.contains(folder));
        all.iter().filter(|path| !is_inside(path)).cloned().collect()
    }
}

/// What a program says on standard output.
#[expect(clippy::disallowed_methods, reason = "this is the VMM room")]
pub(crate) fn said(program: &Path, args: &[&str], traced: bool) -> std::io::Result<Vec<u8>> {
    let mut command = Command::new(program);
    command.args(args).env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    if traced {
        command.env("LD_TRACE_LOADED_OBJECTS", "1");
    }
    Ok(command.output()?.stdout)
}

/// The absolute paths in what the loader says: `libz.so.1 => /lib/libz.so.1 (0x7f..)`. A static
/// program has no loader and tells its version instead.
fn libraries(said: &[u8]) -> Vec<PathBuf> {
    let lines = said.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"\t"));
    let words = lines.flat_map(|line| line.split(u8::is_ascii_whitespace));
    let paths = words.filter(|word| word.starts_with(b"/"));
    let paths: BTreeSet<_> = paths.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect();
    paths.into_iter().collect()
}

/// The folders in which a file lies, on every way that its links lead over.
fn hops(path: &Path) -> Vec<PathBuf> {
    const LIMIT: usize = 16;
    let mut found = Vec::new();
    let mut next = Some(path.to_owned());
    while let Some(path) = next.take().filter(|_| found.len() < LIMIT) {
        let Some(folder) = path.parent() else { break };
        found.push(folder.to_owned());
        next = fs::read_link(&path).ok().map(|target| plain(&folder.join(target)));
    }
    found
}

/// Without `.` and `..`, where the folder really is.
fn plain(path: &Path) -> PathBuf {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return path.to_owned();
    };
    let has_dots = folder.components().any(|part| part.as_os_str() == "..");
    match has_dots.then(|| fs::canonicalize(folder)) {
        Some(Ok(folder)) => folder.join(name),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_loaders_words_are_understood_and_those_of_a_static_program_are_none() {
        let said = b"\tlinux-vdso.so.1 (0x00007f)\n\tlibz.so.1 => /lib/libz.so.1 (0x00007f)\n\
                     \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let expected = [Path::new("/lib/libz.so.1"), Path::new("/lib64/ld-linux-x86-64.so.2")];
        assert_eq!(libraries(said), expected);
        assert_eq!(libraries(b"Firecracker v1.16.1\n/not/a/library\n"), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_library_behind_links_needs_every_folder_on_the_way() {
        let tree = tempfile::tempdir().unwrap();
        let path = |name: &str| tree.path().join(name);
        for folder in ["lib", "alternatives", "lib/blas"] {
            fs::create_dir(path(folder)).unwrap();
        }
        fs::write(path("lib/blas/libblas.so.3"), "").unwrap();
        symlink("../lib/blas/libblas.so.3", path("alternatives/blas")).unwrap();
        symlink(path("alternatives/blas"), path("lib/libblas.so.3")).unwrap();
        let expected = [path("lib"), path("alternatives"), path("lib/blas")];
        assert_eq!(hops(&path("lib/libblas.so.3")), expected);
    }

    #[test]
    fn no_place_lies_in_another() {
        let needs = Needs {
            program: "/opt/lib/vmm".into(),
            libraries: vec!["/opt/lib/liba.so".into(), LOADER_CACHE.into()],
            folders: vec!["/opt/lib/modules".into(), "/opt/share".into()],
        };
        let places = ["/etc/ld.so.cache", "/opt/lib", "/opt/share"].map(PathBuf::from);
        assert_eq!(needs.places(), places);
    }
}
