//! What clients of the gateway show: made once, kept where only the user reads it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::CliError;
use crate::{environment, output};

/// The token of this home. A new one is printed, this once.
pub(crate) fn find_or_make() -> Result<String, CliError> {
    let path = environment::home()?.gateway_token();
    match read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path),
        Err(error) => Err(failed("read", &path, &error)),
        Ok(token) if token.len() < LEAST => {
            let why = format!("{} holds no token of {LEAST} characters or more", path.display());
            Err(CliError::failed(why).hint(format!("rm {}", path.display())))
        }
        Ok(token) => {
            output::note(&format!("the token is in {}", path.display()));
            Ok(token)
        }
    }
}

/// Shortest that is taken.
const LEAST: usize = 16;

fn read(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mode = file.metadata()?.mode() & 0o777;
    if mode & 0o077 != 0 {
        let why = format!("others may read it (mode {mode:o}); chmod 600 it, or remove it");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

fn make(path: &Path) -> Result<String, CliError> {
    let mut bytes = [0; 32];
    getrandom(&mut bytes[..], GetRandomFlags::empty())
        .map_err(|errno| failed("make", path, &errno.into()))?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    if let Some(home) = path.parent() {
        fs::create_dir_all(home).map_err(|error| failed("make", home, &error))?;
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| writeln!(file, "{token}"));
    written.map_err(|error| failed("write", path, &error))?;
    output::line(format_args!("token {token}, which is also in {}", path.display()))?;
    Ok(token)
}

fn failed(act: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::failed(format!("can't {act} {}: {error}", path.display()))
}
