//! What a kernel file is, from its own bytes.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use memchr::memmem;

use super::KernelError;
use super::bzimage::{self, BzImage, MAX_KERNEL};
use super::elf::{self, Elf};

/// What a kernel file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    pub format: Format,
    /// As in `uname -r`, where the file says it.
    pub version: Option<String>,
    /// Whether it finds its devices on the command line, and so does without ACPI.
    pub devices_on_command_line: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// An uncompressed ELF kernel; `pvh` when it has the entry point that QEMU boots directly.
    Vmlinux { pvh: bool },
    /// A compressed kernel with the x86 boot protocol.
    BzImage,
}

/// What stands before the version in every kernel.
const BANNER: &[u8] = b"Linux version ";
/// Name of the parameter that a kernel has which takes devices from its command line.
const DEVICE_PARAMETER: &[u8] = b"virtio_mmio.device\0";

/// What the file at `path` is: reads all of it.
pub fn inspect(path: &Path) -> Result<Inspection, KernelError> {
    let (mut file, format) = open(path)?;
    let bytes = read(path, &mut file)?;
    match format {
        Format::Vmlinux { pvh } => inspect_vmlinux(path, &bytes, pvh),
        Format::BzImage => inspect_bzimage(path, &bytes),
    }
}

/// What the file at `path` is, as far as its headers tell, and whether it is whole.
pub(super) fn format(path: &Path) -> Result<Format, KernelError> {
    open(path).map(|(_, format)| format)
}

/// The ELF kernel in the file at `path`, decompressed where it has to be.
pub(super) fn vmlinux(path: &Path) -> Result<Vec<u8>, KernelError> {
    let (mut file, format) = open(path)?;
    let bytes = read(path, &mut file)?;
    match format {
        Format::Vmlinux { .. } => Ok(bytes),
        Format::BzImage => {
            let refused = |source| KernelError::BzImage { path: path.to_owned(), source };
            let vmlinux =
                BzImage::new(&bytes).and_then(|image| image.vmlinux()).map_err(refused)?;
            check_elf(path, io::Cursor::new(&vmlinux))?;
            Ok(vmlinux)
        }
    }
}

/// As in `uname -r`.
pub(super) fn version(vmlinux: &[u8]) -> Option<String> {
    let texts = memmem::find_iter(vmlinux, BANNER).map(|at| &vmlinux[at + BANNER.len()..]);
    texts.filter_map(release).next()
}

/// The word at the start, if it begins as versions do: the banner's name alone stands there, too.
fn release(text: &[u8]) -> Option<String> {
    let word = text[..text.len().min(128)].split(|byte| !byte.is_ascii_graphic()).next()?;
    let release = word.first().is_some_and(u8::is_ascii_digit);
    release.then(|| String::from_utf8_lossy(word).into_owned())
}

/// Any program is an ELF file; a kernel says that it is Linux, or how it is booted.
fn inspect_vmlinux(path: &Path, bytes: &[u8], pvh: bool) -> Result<Inspection, KernelError> {
    let version = version(bytes);
    if version.is_none() && !pvh {
        return Err(KernelError::Unknown { path: path.to_owned() });
    }
    Ok(Inspection {
        format: Format::Vmlinux { pvh },
        version,
        devices_on_command_line: memmem::find(bytes, DEVICE_PARAMETER).is_some(),
    })
}

fn inspect_bzimage(path: &Path, bytes: &[u8]) -> Result<Inspection, KernelError> {
    let refused = |source| KernelError::BzImage { path: path.to_owned(), source };
    let image = BzImage::new(bytes).map_err(refused)?;
    let vmlinux = image.vmlinux().map_err(refused)?;
    Ok(Inspection {
        format: Format::BzImage,
        version: image.version().or_else(|| version(&vmlinux)),
        devices_on_command_line: memmem::find(&vmlinux, DEVICE_PARAMETER).is_some(),
    })
}

fn open(path: &Path) -> Result<(File, Format), KernelError> {
    let failed = |source| KernelError::Read { path: path.to_owned(), source };
    let kind = fs::metadata(path).map_err(failed)?.file_type();
    if kind.is_dir() {
        return Err(KernelError::Folder { path: path.to_owned() });
    }
    if !kind.is_file() {
        return Err(KernelError::Unknown { path: path.to_owned() });
    }
    let mut file = File::open(path).map_err(failed)?;
    let mut start = Vec::new();
    file.by_ref().take(0x250).read_to_end(&mut start).map_err(failed)?;
    let format = if start.is_empty() {
        return Err(KernelError::Empty { path: path.to_owned() });
    } else if start.starts_with(elf::MAGIC) {
        Format::Vmlinux { pvh: check_elf(path, &mut file)? }
    } else if bzimage::is_bzimage(&start) {
        check_bzimage(path, &mut file)?
    } else {
        return Err(KernelError::Unknown { path: path.to_owned() });
    };
    Ok((file, format))
}

fn check_elf(path: &Path, file: impl Read + Seek) -> Result<bool, KernelError> {
    let checked = Elf::open(file).and_then(|mut elf| elf.check_kernel());
    checked.map_err(|source| KernelError::Elf { path: path.to_owned(), source })
}

fn check_bzimage(path: &Path, file: &mut File) -> Result<Format, KernelError> {
    let bytes = read(path, file)?;
    BzImage::new(&bytes)
        .map_err(|source| KernelError::BzImage { path: path.to_owned(), source })?;
    Ok(Format::BzImage)
}

/// All of the file, from its start.
fn read(path: &Path, file: &mut File) -> Result<Vec<u8>, KernelError> {
    let mut bytes = Vec::new();
    let read = file
        .seek(SeekFrom::Start(0))
        .and_then(|_| file.take(MAX_KERNEL as u64).read_to_end(&mut bytes));
    read.map_err(|source| KernelError::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::bzimage::tests::bzimage;
    use super::super::elf::tests::kernel;
    use super::*;
    use crate::decompress::tests::gzip;

    fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernel");
        fs::write(&path, bytes).unwrap();
        (folder, path)
    }

    #[test]
    fn a_vmlinux_tells_its_version_and_how_it_finds_devices() {
        let content = b"Linux version %s\0Linux version 6.12.9-lean (x@y)\0virtio_mmio.device\0";
        let (_folder, path) = file(&kernel(content, true));
        let found = inspect(&path).unwrap();
        assert_eq!(found.format, Format::Vmlinux { pvh: true });
        assert_eq!(found.version.as_deref(), Some("6.12.9-lean"));
        assert!(found.devices_on_command_line);
    }

    #[test]
    fn a_bzimage_is_looked_into() {
        let vmlinux = kernel(b"nothing to see", false);
        let (_folder, path) = file(&bzimage(&gzip(&vmlinux)));
        let found = inspect(&path).unwrap();
        assert_eq!(found.format, Format::BzImage);
        assert_eq!(found.version.as_deref(), Some("6.1.0-test"));
        assert!(!found.devices_on_command_line);
        assert_eq!(super::vmlinux(&path).unwrap(), vmlinux);
    }

    #[test]
    fn what_is_no_kernel_is_refused_in_words() {
        let folder = tempfile::tempdir().unwrap();
        let whole = kernel(b"some code", true);
        let program = kernel(b"some code", false);
        let cases: [(&str, Option<&[u8]>, &str); 6] = [
            ("program", Some(&program), "neither an ELF vmlinux nor a bzImage"),
            ("missing", None, "read kernel"),
            ("empty", Some(b""), "it is empty"),
            ("text", Some(b"#!/bin/sh\n"), "neither an ELF vmlinux nor a bzImage"),
            ("cut", Some(&whole[..whole.len() - 1]), "use kernel"),
            ("short", Some(&whole[..30]), "use kernel"),
        ];
        for (name, bytes, words) in cases {
            let path = folder.path().join(name);
            if let Some(bytes) = bytes {
                fs::write(&path, bytes).unwrap();
            }
            let refused = inspect(&path).unwrap_err().to_string();
            assert!(refused.contains(words) && refused.contains(name), "{refused}");
        }
        let refused = inspect(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("it is a folder"), "{refused}");
    }
}
