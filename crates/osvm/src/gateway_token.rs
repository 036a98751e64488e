//! What clients of the gateway show: made once, kept where only the user reads it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::CliError;
use crate::{environment, output, secrets};

/// The token of this home. A new one is printed, this once.
pub(crate) fn find_or_make() -> Result<String, CliError> {
    let path = environment::home()?.gateway_token();
    if !path.exists() {
        return make(&path);
    }
    let token = secrets::from_file(&path)?.trim().to_owned();
    if token.len() < LEAST {
        let why = format!("{} holds no token of {LEAST} characters or more", path.display());
        return Err(CliError::failed(why).hint(format!("rm {}", path.display())));
    }
    output::note(&format!("the token is in {}", path.display()));
    Ok(token)
}

/// Shortest that is taken.
const LEAST: usize = 16;

/// A new one: 256 bits in hexadecimal digits.
pub(crate) fn random() -> Result<String, CliError> {
    let mut bytes = [0; 32];
    getrandom(&mut bytes[..], GetRandomFlags::empty())
        .map_err(|errno| CliError::failed(format!("can't make a token: {errno}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn make(path: &Path) -> Result<String, CliError> {
    let token = random()?;
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
