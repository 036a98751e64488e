//! `kernel.json`, which lies beside a kernel and tells what can't be seen in the file. `cargo xtask
//! kernel` writes `version`, `flavour`, `acpi` and `args`; `install` writes all keys.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Flavour, Kernel, KernelError};

pub(super) const FILE: &str = "kernel.json";
/// More than any honest one.
const MAX_BYTES: u64 = 64 << 10;
/// Raised when the meaning of a key changes.
pub(super) const FORMAT: u32 = 1;
/// What a manifest without a file's name speaks of.
const BUILT: [&str; 2] = ["vmlinux", "bzImage"];

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    #[serde(default = "format")]
    pub(super) format: u32,
    pub(super) version: String,
    pub(super) flavour: Flavour,
    pub(super) acpi: bool,
    #[serde(default)]
    pub(super) args: String,
    /// Name of the kernel's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<String>,
    /// Its bytes; another size means that the file is no longer the one spoken of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    /// Name of the modules' archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) modules: Option<String>,
    /// What it was installed from, so that the same is not installed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) made_from: Option<String>,
}

impl Manifest {
    /// The manifest beside the kernel at `path`, if it speaks of a file with this name and size.
    pub(super) fn beside(path: &Path) -> Result<Option<Self>, KernelError> {
        let manifest = Self::read(&path.with_file_name(FILE))?;
        Ok(manifest.filter(|manifest| manifest.names(path) && manifest.fits(path)))
    }

    fn read(path: &Path) -> Result<Option<Self>, KernelError> {
        let path_of = || path.to_owned();
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KernelError::Read { path: path_of(), source }),
        };
        let manifest: Self = serde_json::from_slice(&bytes)
            .map_err(|source| KernelError::Manifest { path: path_of(), source })?;
        match manifest.format {
            FORMAT => Ok(Some(manifest)),
            found => Err(KernelError::ManifestFormat { path: path_of(), found, known: FORMAT }),
        }
    }

    fn fits(&self, path: &Path) -> bool {
        self.size.is_none_or(|size| path.metadata().is_ok_and(|meta| meta.len() == size))
    }

    fn names(&self, path: &Path) -> bool {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
        self.file.as_deref().map_or_else(|| BUILT.contains(&name), |file| file == name)
    }

    pub(super) fn kernel(self, path: &Path) -> Kernel {
        let modules = self.modules.as_deref().and_then(|name| Path::new(name).file_name());
        Kernel {
            path: path.to_owned(),
            version: self.version,
            flavour: self.flavour,
            acpi: self.acpi,
            args: self.args,
            modules: modules.map(|name| path.with_file_name(name)),
        }
    }
}

fn format() -> u32 {
    FORMAT
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        let what = format!("it is over {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beside(json: &str, file: &str) -> Result<Option<Kernel>, KernelError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), json).unwrap();
        let path = folder.path().join(file);
        std::fs::write(&path, "kernel").unwrap();
        Ok(Manifest::beside(&path)?.map(|manifest| manifest.kernel(&path)))
    }

    #[test]
    fn what_the_kernels_build_writes_is_read() {
        let json = r#"{"version":"6.12","flavour":"lean","acpi":false,"args":"swiotlb=noforce"}"#;
        let kernel = beside(json, "vmlinux").unwrap().unwrap();
        assert_eq!((kernel.flavour, kernel.acpi), (Flavour::Lean, false));
        assert_eq!((kernel.args.as_str(), kernel.modules), ("swiotlb=noforce", None));
        assert!(beside(json, "bzImage").unwrap().is_some());
        assert!(beside(json, "another").unwrap().is_none());
    }

    #[test]
    fn a_kernel_of_another_size_is_not_the_one_spoken_of() {
        let json = |size: u64| {
            format!(r#"{{"version":"1","flavour":"lean","acpi":false,"file":"k","size":{size}}}"#)
        };
        assert!(beside(&json(6), "k").unwrap().is_some());
        assert!(beside(&json(7), "k").unwrap().is_none());
    }

    #[test]
    fn modules_lie_in_the_same_folder_whatever_the_manifest_says() {
        let json = r#"{"version":"1","flavour":"distribution","acpi":true,"file":"k","modules":"../../etc/x"}"#;
        let kernel = beside(json, "k").unwrap().unwrap();
        assert_eq!(kernel.modules.unwrap(), kernel.path.with_file_name("x"));
    }

    #[test]
    fn damaged_huge_and_newer_manifests_are_refused() {
        assert!(matches!(beside("{", "k"), Err(KernelError::Manifest { .. })));
        assert!(matches!(beside(&" ".repeat(70_000), "k"), Err(KernelError::Read { .. })));
        let json = r#"{"format":2,"version":"1","flavour":"lean","acpi":false}"#;
        assert!(matches!(beside(json, "k"), Err(KernelError::ManifestFormat { found: 2, .. })));
    }
}
