//! What a kernel build needs of the host, and which packages bring it.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Something that must be there, and the Debian package that it comes in.
pub(crate) struct Need {
    what: What,
    package: &'static str,
}

enum What {
    Program(&'static str),
    Header(&'static str),
}

/// Needed to name the result, even when it is already there.
pub(crate) const ALWAYS: &[Need] = &[program("gcc", "gcc")];

/// Needed to build.
pub(crate) const BUILD: &[Need] = &[
    program("make", "make"),
    program("flex", "flex"),
    program("bison", "bison"),
    program("bc", "bc"),
    program("strip", "binutils"),
    program("tar", "tar"),
    program("patch", "patch"),
    program("xz", "xz-utils"),
    header("gelf.h", "libelf-dev"),
];

const fn program(name: &'static str, package: &'static str) -> Need {
    Need { what: What::Program(name), package }
}

const fn header(name: &'static str, package: &'static str) -> Need {
    Need { what: What::Header(name), package }
}

/// Fails with everything that is missing and the command that installs it.
pub(crate) fn require(needs: &[Need]) -> Result<()> {
    require_in(needs, &std::env::var_os("PATH").unwrap_or_default())
}

fn require_in(needs: &[Need], path: &std::ffi::OsStr) -> Result<()> {
    let missing: Vec<_> = needs.iter().filter(|need| !need.is_met(path)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|need| need.name()).collect();
    let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    bail!(
        "the kernel's build needs what is not here: {}\nhint: apt-get install {}",
        names.join(", "),
        packages.join(" ")
    )
}

/// The compiler's own line about its version.
pub(crate) fn compiler() -> Result<String> {
    let output = Command::new("gcc").arg("--version").output().context("cannot run gcc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

impl Need {
    fn name(&self) -> &'static str {
        match self.what {
            What::Program(name) | What::Header(name) => name,
        }
    }

    fn is_met(&self, path: &std::ffi::OsStr) -> bool {
        match self.what {
            What::Program(name) => {
                std::env::split_paths(path).any(|folder| folder.join(name).is_file())
            }
            What::Header(name) => has_header(name),
        }
    }
}

/// Asks the compiler, which knows where its headers are.
fn has_header(name: &str) -> bool {
    Command::new("gcc")
        .args(["-E", "-include", name, "-x", "c"])
        .arg(Path::new("/dev/null"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_named_with_its_packages() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("make"), "").unwrap();
        let needs = [program("make", "make"), program("flex", "flex"), program("xz", "xz-utils")];
        let error = require_in(&needs, folder.path().as_os_str()).unwrap_err().to_string();
        assert!(error.contains("not here: flex, xz"), "{error}");
        assert!(error.ends_with("apt-get install flex xz-utils"), "{error}");
    }
}
