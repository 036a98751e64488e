//! The filter of system calls that Firecracker puts on by itself.
//!
//! A build with musl, as releases are, has one inside. A build with glibc has one that allows everything, which
//! nobody can tell from outside once it runs; it takes a file made by Firecracker's own compiler of filters.

use std::fs::File;
use std::path::{Path, PathBuf};

use object::elf::{ELF_NOTE_GNU, FileHeader64, NT_GNU_ABI_TAG};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadCache};

/// The name of such a file, in the program's folder.
const FILE: &str = "firecracker-seccomp.bpf";

/// Where a program has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    Inside,
    Beside(PathBuf),
    Nowhere,
}

impl Filter {
    pub(super) fn of(program: &Path) -> Self {
        let file = program.with_file_name(FILE);
        match () {
            () if file.is_file() => Self::Beside(file),
            () if is_of_glibc(program).unwrap_or(false) => Self::Nowhere,
            () => Self::Inside,
        }
    }

    /// Why there is none.
    pub(super) fn lack(&self) -> Option<&'static str> {
        (*self == Self::Nowhere).then_some(
            "built with glibc, it has none inside, and no firecracker-seccomp.bpf lies beside it",
        )
    }
}

/// Every program that is linked with glibc tells the oldest kernel it can run on.
fn is_of_glibc(program: &Path) -> Result<bool, object::Error> {
    let Ok(file) = File::open(program) else { return Ok(false) };
    let data = &ReadCache::new(file);
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, data)? {
        let Some(mut notes) = segment.notes(endian, data)? else { continue };
        while let Some(note) = notes.next()? {
            if note.name() == ELF_NOTE_GNU && note.n_type(endian) == NT_GNU_ABI_TAG {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_of_glibc_has_a_filter_only_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let (program, file) = (folder.path().join("firecracker"), folder.path().join(FILE));
        std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
        let inside = if cfg!(target_env = "gnu") { Filter::Nowhere } else { Filter::Inside };
        assert_eq!(Filter::of(&program), inside);
        std::fs::write(&file, "filter").unwrap();
        assert_eq!(Filter::of(&program), Filter::Beside(file));
    }

    #[test]
    fn of_what_is_no_program_nothing_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("firecracker");
        assert_eq!(Filter::of(&program), Filter::Inside);
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        assert_eq!(Filter::of(&program), Filter::Inside);
    }
}
