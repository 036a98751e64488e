//! The distribution's kernel source package: which one is installed, and in which version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// An installed `linux-source-X.Y` package.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) archive: PathBuf,
    /// The package's version, which changes with every fix.
    pub(crate) version: String,
}

/// The newest kernel source archive in `folder`.
pub(crate) fn newest(folder: &Path) -> Result<Source> {
    let archive = newest_archive(folder).with_context(|| {
        format!(
            "no linux-source-*.tar.* in {}\n\
             hint: apt-get install --no-install-recommends linux-source-6.12 \
             (or a later linux-source-6.x)",
            folder.display()
        )
    })?;
    let version = package_version(&archive)?;
    Ok(Source { archive, version })
}

fn newest_archive(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    files.filter_map(|path| Some((kernel_version(&path)?, path))).max().map(|(_, path)| path)
}

/// `[6, 12]` of `linux-source-6.12.tar.xz`.
fn kernel_version(archive: &Path) -> Option<Vec<u32>> {
    package(archive)?.strip_prefix("linux-source-")?.split('.').map(|n| n.parse().ok()).collect()
}

/// The package is named like its archive, without `.tar.xz`.
fn package(archive: &Path) -> Option<&str> {
    Some(archive.file_name()?.to_str()?.split_once(".tar.")?.0)
}

fn package_version(archive: &Path) -> Result<String> {
    let package = package(archive).context("the archive has no package name")?;
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Version}", package])
        .output()
        .context("cannot run dpkg-query, which tells the kernel source's version")?;
    if !output.status.success() {
        bail!(
            "{} belongs to no installed package\nhint: apt-get install --reinstall {package}",
            archive.display()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "").unwrap();
        }
        folder
    }

    #[test]
    fn the_newest_archive_is_found_by_number_and_not_by_letter() {
        let folder = folder(&[
            "linux-source-6.1.tar.xz",
            "linux-source-6.12.tar.xz",
            "linux-source-6.8.0.tar.bz2",
            "linux-config-6.12.tar.xz",
            "linux-source-6.99",
        ]);
        let found = newest_archive(folder.path()).unwrap();
        assert_eq!(found.file_name().unwrap(), "linux-source-6.12.tar.xz");
    }

    #[test]
    fn a_folder_without_an_archive_says_what_to_install() {
        let folder = folder(&["linux-headers-6.12"]);
        let error = newest(folder.path()).unwrap_err().to_string();
        assert!(error.contains("apt-get install --no-install-recommends linux-source"), "{error}");
    }
}
