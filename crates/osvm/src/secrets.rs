//! The values of a server's secrets, from where its rules say they are, for one request. They go to the daemon over
//! its socket, and nowhere else.

mod keyring;

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use osvm_spec::{SecretRule, Secrets, ServerName, Source, containers};
use rustix::fs::OFlags;
use rustix::process::{DumpableBehavior, geteuid, set_dumpable_behavior};

use crate::config_file::ConfigFile;
use crate::environment;
use crate::error::CliError;

/// More than any token or key has.
const LONGEST: u64 = 64 * 1024;

/// What the server `name` is to be given: by the configuration, and by `more`, which is stronger.
pub(crate) fn of(name: &ServerName, more: &[SecretRule]) -> Result<Secrets, CliError> {
    gather(&SecretRule::merge(rules(name)?, more))
}

/// What the configuration says, without the user being asked for it; nothing if that is what it takes.
pub(crate) fn unasked(name: &ServerName) -> Result<Option<Secrets>, CliError> {
    let rules = rules(name)?;
    let asks = rules.iter().any(|rule| matches!(rule.source, Source::Keyring { .. }));
    if asks { Ok(None) } else { gather(&rules).map(Some) }
}

fn rules(name: &ServerName) -> Result<Vec<SecretRule>, CliError> {
    let config = ConfigFile::open()?.current()?;
    let registered = config.server(name).cloned().map(containers::lower);
    // A command that is not understood is told by whoever is asked to run it.
    let registered = registered.and_then(Result::ok).map(|(server, _)| server.secrets);
    Ok(registered.unwrap_or_default())
}

/// What the rules say.
pub(crate) fn gather(rules: &[SecretRule]) -> Result<Secrets, CliError> {
    if !rules.is_empty() {
        // A crash must not leave them in a file. Fails on no kernel that osvm runs on.
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
    rules.iter().map(|rule| Ok((rule.name.clone(), value(rule)?))).collect()
}

fn value(rule: &SecretRule) -> Result<String, CliError> {
    let value = match &rule.source {
        Source::Environment(variable) => from_environment(variable),
        Source::File(path) => from_file(&environment::expand(path)?),
        Source::Keyring { service, account } => keyring::read(service, account),
    };
    value.map_err(|error| error.about(format!("secret {}", rule.name)))
}

fn from_environment(variable: &str) -> Result<String, CliError> {
    let Some(value) = environment::secret(variable) else {
        let error = CliError::failed(format!("variable {variable} is not set"));
        return Err(error.hint(format!("export {variable}=...")));
    };
    value.into_string().map_err(|_| CliError::failed(format!("variable {variable} is no UTF-8")))
}

/// What a file of the user's alone holds, without its last newline, which editors add.
pub(crate) fn from_file(path: &Path) -> Result<String, CliError> {
    let shown = path.display();
    let failed = |error: io::Error| CliError::failed(format!("can't read {shown}: {error}"));
    // A pipe in its place, which is refused, must not be waited for.
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path);
    let file = file.map_err(failed)?;
    check_private(path, &file)?;
    let mut text = String::new();
    file.take(LONGEST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LONGEST {
        return Err(CliError::failed(format!("{shown} is longer than {LONGEST} bytes")));
    }
    if text.contains('\0') {
        return Err(CliError::failed(format!(
            "{shown} has a zero byte, which no variable can hold"
        )));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// Nobody else may have read it.
fn check_private(path: &Path, file: &File) -> Result<(), CliError> {
    let shown = path.display();
    let about = file
        .metadata()
        .map_err(|error| CliError::failed(format!("can't tell whose {shown} is: {error}")))?;
    let (mode, own) = (about.mode() & 0o777, about.uid() == geteuid().as_raw() || about.uid() == 0);
    if !about.is_file() {
        return Err(CliError::failed(format!("{shown} is no regular file")));
    }
    if mode & 0o077 != 0 {
        let message = format!("{shown} has mode {mode:04o}: others can read it");
        return Err(CliError::failed(message).hint(format!("chmod 600 {shown}")));
    }
    match own {
        true => Ok(()),
        false => Err(CliError::failed(format!("{shown} belongs to user {}", about.uid()))),
    }
}
