//! What the lab needs of this machine's programs, found before anything is started.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Where a program is, or which package brings it.
pub(super) fn find(name: &str, package: &str) -> Result<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("find {name} on PATH\nhint: apt-get install {package}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_told_with_its_package() {
        assert!(find("sh", "dash").unwrap().is_file());
        let error = find("no-such-program", "its-package").unwrap_err().to_string();
        assert_eq!(error, "find no-such-program on PATH\nhint: apt-get install its-package");
    }
}
