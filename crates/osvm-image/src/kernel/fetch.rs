//! The distribution's own kernel package, by the distribution's own tools. Needs no root: packages
//! are downloaded and not installed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use thiserror::Error;

use super::KernelError;
use crate::files;

/// Why no kernel package was downloaded.
#[derive(Debug, Error)]
pub enum FetchError {
    #[error("{program} can't be started")]
    NoApt { program: &'static str, source: io::Error },
    #[error("{program} failed ({reason})")]
    Apt { program: &'static str, reason: String },
    #[error("the package lists know none of {0}")]
    NoPackage(String),
    #[error("the SHA-256 of {0} is not the one in the package lists")]
    Digest(String),
    #[error("keep packages in {}", path.display())]
    Keep { path: PathBuf, source: io::Error },
}

/// Packages that depend on the newest kernel for virtual machines, best first.
const NEWEST: [&str; 3] = ["linux-image-cloud-amd64", "linux-image-virtual", "linux-image-kvm"];
/// Where distributions put parts of a kernel that are not in its own package.
const PARTS: [&str; 2] = ["linux-modules-", "linux-binary-"];

/// Downloads the distribution's kernel package into `folder` without root; needs `apt-get`.
pub fn download(folder: &Path) -> Result<PathBuf, KernelError> {
    Ok(fetch_newest(&NEWEST, folder)?)
}

/// Downloads the kernel that the first known of `metapackages` needs, and its parts beside it.
pub(super) fn fetch_newest(metapackages: &[&str], folder: &Path) -> Result<PathBuf, FetchError> {
    let kernel = newest(metapackages)?;
    let suffix = kernel.strip_prefix("linux-image-").unwrap_or(&kernel);
    let needs = depends(&kernel)?;
    let is_part = |name: &&String| PARTS.iter().any(|part| **name == format!("{part}{suffix}"));
    files::make_folder(folder).map_err(FetchError::keep(folder))?;
    for part in needs.iter().filter(is_part) {
        fetch(part, folder)?;
    }
    fetch(&kernel, folder)
}

impl FetchError {
    fn keep(folder: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Keep { path: folder.to_owned(), source }
    }
}

/// The package with the newest kernel itself.
fn newest(metapackages: &[&str]) -> Result<String, FetchError> {
    for package in metapackages {
        let depends = depends(package)?;
        if let Some(kernel) = depends.into_iter().find(|name| is_kernel(name)) {
            return Ok(kernel);
        }
    }
    Err(FetchError::NoPackage(metapackages.join(", ")))
}

fn is_kernel(package: &str) -> bool {
    let version = package.strip_prefix("linux-image-").unwrap_or_default();
    version.starts_with(|first: char| first.is_ascii_digit())
}

/// Names of the packages that `package` needs; none when it is unknown.
fn depends(package: &str) -> Result<Vec<String>, FetchError> {
    let output = output("apt-cache", Path::new("."), &["depends", package])?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(needed).map(str::to_owned).collect())
}

/// The name in `  Depends: name`, also as ` |Depends: name` where it is one of several.
fn needed(line: &str) -> Option<&str> {
    line.trim_start_matches([' ', '|']).strip_prefix("Depends: ").map(str::trim)
}

/// Downloads one package beside where it will lie, checks it, and gives it its name.
fn fetch(package: &str, folder: &Path) -> Result<PathBuf, FetchError> {
    let failed = || FetchError::keep(folder);
    let shown = succeed("apt-cache", folder, &["show", "--no-all-versions", package])?;
    let work = tempfile::tempdir_in(folder).map_err(failed())?;
    succeed("apt-get", work.path(), &["download", package])?;
    let file = only_file(work.path()).map_err(failed())?;
    let digest = files::digest(&file).map_err(failed())?;
    if field(&shown, "SHA256: ") != Some(digest.as_str()) {
        return Err(FetchError::Digest(package.to_owned()));
    }
    let kept = folder.join(file.file_name().unwrap_or(OsStr::new(package)));
    File::open(&file).and_then(|file| file.sync_all()).map_err(failed())?;
    fs::rename(&file, &kept).map_err(failed())?;
    Ok(kept)
}

fn only_file(folder: &Path) -> io::Result<PathBuf> {
    let file = fs::read_dir(folder)?.next().ok_or(io::ErrorKind::NotFound)?;
    Ok(file?.path())
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

/// What a program printed, or the last thing that it complained of.
fn succeed(program: &'static str, folder: &Path, args: &[&str]) -> Result<String, FetchError> {
    let output = output(program, folder, args)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(FetchError::Apt { program, reason: reason(&output) })
}

fn reason(output: &Output) -> String {
    let complaints = String::from_utf8_lossy(&output.stderr);
    let last = complaints.lines().rev().find(|line| !line.trim().is_empty());
    last.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned())
}

#[expect(clippy::disallowed_methods, reason = "packages come by the distribution's own tools")]
fn output(program: &'static str, folder: &Path, args: &[&str]) -> Result<Output, FetchError> {
    let mut command = Command::new(program);
    // Its words are read, so they have to be in the language known here.
    command.args(args).current_dir(folder).env("LC_ALL", "C");
    command.output().map_err(|source| FetchError::NoApt { program, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metapackage_leads_to_the_kernel_it_needs() {
        let lines = ["linux-image-cloud-amd64", "  Depends: linux-image-6.1.0-56-cloud-amd64"];
        let names: Vec<_> = lines.into_iter().filter_map(needed).collect();
        assert_eq!(names, ["linux-image-6.1.0-56-cloud-amd64"]);
        assert!(is_kernel(names[0]));
        assert!(!is_kernel("linux-image-cloud-amd64"));
        assert!(!is_kernel("linux-base"));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = output("osvm-no-such-program", Path::new("."), &[]).unwrap_err();
        let want = "osvm-no-such-program can't be started";
        assert_eq!(error.to_string(), want);
    }

    #[test]
    fn the_last_complaint_is_the_reason() {
        let shell =
            succeed("sh", Path::new("."), &["-c", "echo W: a >&2; echo E: b >&2; exit 100"]);
        let want = "sh failed (E: b)";
        assert_eq!(shell.unwrap_err().to_string(), want);
    }
}
