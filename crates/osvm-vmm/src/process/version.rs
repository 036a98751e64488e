//! Asks a program for its version.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::VmmError;

/// Runs `program --version` and takes what follows `name` in its first line.
pub(crate) async fn version(program: &Path, name: &str) -> Result<String, VmmError> {
    let path = program.to_owned();
    let run = move || {
        #[expect(clippy::disallowed_methods, reason = "this is the VMM room")]
        let mut command = Command::new(path);
        command.arg("--version").stdin(Stdio::null()).output()
    };
    let error = |source| VmmError::Spawn { program: program.to_owned(), source };
    let output = tokio::task::spawn_blocking(run).await.map_err(|join| error(join.into()))?;
    let said = String::from_utf8_lossy(&output.map_err(error)?.stdout).into_owned();
    parse(&said, name).ok_or_else(|| VmmError::Version {
        program: program.to_owned(),
        said: said.lines().next().unwrap_or_default().to_owned(),
    })
}

fn parse(said: &str, name: &str) -> Option<String> {
    let version = said.lines().next()?.strip_prefix(name)?.split_ascii_whitespace().next()?;
    Some(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_vmms_say() {
        let qemu = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright 2003";
        assert_eq!(parse(qemu, "QEMU emulator version").unwrap(), "7.2.22");
        let firecracker = "Firecracker v1.17.0-dev\n\nSupported snapshot data format versions";
        assert_eq!(parse(firecracker, "Firecracker v").unwrap(), "1.17.0-dev");
    }

    #[test]
    fn another_program_is_not_taken_for_a_vmm() {
        assert_eq!(parse("true (GNU coreutils) 9.1", "Firecracker v"), None);
        assert_eq!(parse("", "Firecracker v"), None);
    }
}
