//! Images of paths, made in a process of their own: the daemon stays small whatever there is in them.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use osvm_fleet::Importer;
use osvm_fleet::state::{Cause, CauseKind};
use osvm_image::Store;
use osvm_spec::Digest;
use serde::{Deserialize, Serialize};

/// First argument of that process; the store's folder and the path follow.
pub const WORD: &str = "image-import";

pub(crate) struct Process {
    /// The osvm executable.
    pub(crate) program: PathBuf,
    pub(crate) store: PathBuf,
}

/// What the process writes.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Made(Digest),
    Failed { message: String, hints: Vec<String> },
}

impl Importer for Process {
    #[expect(clippy::disallowed_methods, reason = "it is osvm itself, started by osvm")]
    fn import(&self, path: &Path) -> Result<Digest, Cause> {
        let mut command = Command::new(&self.program);
        command.arg(WORD).arg(&self.store).arg(path).stdin(Stdio::null()).stderr(Stdio::inherit());
        let failed = |why: String| {
            let message = format!("failed to make the image of {}: {why}", path.display());
            Cause::new(CauseKind::Machine, message)
        };
        let output = command.output().map_err(|error| failed(error.to_string()))?;
        match serde_json::from_slice(&output.stdout) {
            Ok(Outcome::Made(digest)) => Ok(digest),
            Ok(Outcome::Failed { message, hints }) => {
                Err(hints.into_iter().fold(Cause::new(CauseKind::Machine, message), Cause::hint))
            }
            Err(_) => Err(failed(format!("its process ended, {}", output.status))),
        }
    }
}

/// The whole process.
pub(crate) fn run(store: &OsStr, path: &OsStr) -> ExitCode {
    let made = match Store::open(store.as_ref()) {
        Ok(store) => Importer::import(&store, path.as_ref()),
        Err(error) => Err(Cause::new(CauseKind::Machine, format!("failed to {error}"))),
    };
    let outcome = match made {
        Ok(digest) => Outcome::Made(digest),
        Err(Cause { message, hints, .. }) => Outcome::Failed { message, hints },
    };
    let text = serde_json::to_vec(&outcome).expect("it is plain data");
    match io::stdout().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_says_nothing_is_told_with_its_path_and_its_end() {
        let process = Process { program: "/bin/false".into(), store: "/nowhere".into() };
        let cause = process.import("/some/image".as_ref()).unwrap_err();
        assert!(cause.message.contains("/some/image"), "{cause:?}");
        assert!(cause.message.contains("exit status: 1"), "{cause:?}");
    }
}
