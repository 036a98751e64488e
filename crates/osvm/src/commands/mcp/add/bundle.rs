//! What a bundle's manifest and its user say of a server, put together; and how a program or a project starts.

use std::path::Path;

use osvm_daemon::bundles::{self, GUEST, Manifest, Secret, Setting, Start, StartError};
use osvm_daemon::local;
use osvm_spec::config::Entry;
use osvm_spec::{Access, FolderRule, FolderRuleError, SecretRule, SecretRuleError};

use super::settings::{self, Given};
use crate::error::{CliError, Kind};
use crate::secret_files::KeptSecret;
use crate::{environment, images, output, terminal};

/// A bundle's server as it is going to be registered.
pub(super) struct Lowered {
    pub(super) entry: Entry,
    /// Those whose values are to be kept.
    pub(super) secrets: Vec<KeptSecret>,
    /// Folders and files that are lent because a setting names them.
    lent: Vec<String>,
}

/// The server with what `--set` says; as it is, where its image is no bundle.
pub(super) fn lower(entry: Entry, set: Vec<(String, String)>) -> Result<Lowered, CliError> {
    match entry.image.as_ref().and_then(images::bundle) {
        Some(path) => {
            let manifest = bundles::manifest(path)?;
            let mut given = Given::sorted(&manifest, set)?;
            settings::complete(&manifest, &mut given)?;
            let start = manifest.start(&GUEST, &given.open).map_err(|error| refused(&error))?;
            configured(entry, &manifest, start, &mut given)
        }
        None if set.is_empty() => {
            Ok(Lowered { entry: started(entry)?, secrets: Vec::new(), lent: Vec::new() })
        }
        None => Err(CliError::usage("--set is for bundles, and the server is none")
            .hint("osvm mcp add NAME --image ./bundle.mcpb --set KEY=VALUE")),
    }
}

/// The words for a program or a project of this host are its arguments, as a package's are.
fn started(entry: Entry) -> Result<Entry, CliError> {
    let Some(path) = entry.image.as_ref().and_then(images::local) else { return Ok(entry) };
    let command = local::server(path)?.command.into_iter().chain(entry.command).collect();
    Ok(Entry { command, ..entry })
}

/// Flags are stronger than the manifest.
fn configured(
    entry: Entry,
    manifest: &Manifest,
    start: Start,
    given: &mut Given,
) -> Result<Lowered, CliError> {
    let Start { command, env, secrets, mounts, .. } = start;
    let title = manifest.title.clone();
    let mut entry = Entry {
        name: Some(title).filter(|title| !title.contains(char::is_control)),
        command: if entry.command.is_empty() { command } else { entry.command },
        env: env.into_iter().chain(entry.env).collect(),
        ..entry
    };
    let lent = lend(&mut entry.folders, mounts)?;
    let values = give(&mut entry.secrets, &secrets, manifest, given)?;
    let keep = |(name, value): (String, String)| KeptSecret::new(&entry.id, &name, value);
    let secrets = values.into_iter().map(keep).collect::<Result<Vec<_>, _>>()?;
    entry.secrets.extend(secrets.iter().map(|kept| kept.rule.clone()));
    Ok(Lowered { entry, secrets, lent })
}

/// Mounts what settings name, unless it lies in what is mounted there anyway.
fn lend(folders: &mut Vec<FolderRule>, mut mounts: Vec<String>) -> Result<Vec<String>, CliError> {
    // What holds others comes before them.
    mounts.sort();
    let mut lent = Vec::new();
    for path in mounts {
        let is_lent = |folder: &FolderRule| Path::new(&path).starts_with(&folder.guest);
        if !folders.iter().any(is_lent) {
            let rule = FolderRule { host: path.clone(), guest: path.clone(), access: Access::Ro };
            let rule = rule.to_string().parse();
            folders
                .push(rule.map_err(|error: FolderRuleError| CliError::usage(error.to_string()))?);
            lent.push(path);
        }
    }
    Ok(lent)
}

/// Says of each secret where its value comes from, or tells the value, which is to be kept.
fn give(
    rules: &mut Vec<SecretRule>,
    secrets: &[Secret],
    manifest: &Manifest,
    given: &mut Given,
) -> Result<Vec<(String, String)>, CliError> {
    let mut kept = Vec::new();
    for Secret { variable, key, required } in secrets {
        if rules.iter().any(|rule| rule.name == *variable) {
            continue;
        } else if let Some(value) = given.secret(key) {
            kept.push((variable.clone(), value.to_owned()));
        } else if environment::secret(variable).is_some() {
            rules.push(from_environment(variable)?);
        } else if !required {
            output::warning(format_args!("{variable} is not given; --set {key}=VALUE gives it"));
        } else if terminal::is_attended() {
            let value = ask(&manifest.settings[key])?;
            given.secret.insert(key.clone(), value.clone());
            kept.push((variable.clone(), value));
        } else {
            output::warning(format_args!(
                "{variable} comes from the environment, where it is not set; --set {key}=VALUE keeps a value of it"
            ));
            rules.push(from_environment(variable)?);
        }
    }
    Ok(kept)
}

fn from_environment(variable: &str) -> Result<SecretRule, CliError> {
    let rule = variable.parse();
    rule.map_err(|error: SecretRuleError| CliError::usage(error.to_string()))
}

fn ask(setting: &Setting) -> Result<String, CliError> {
    loop {
        let value = terminal::ask_hidden(&settings::question(setting, "secret, not shown"))?;
        if !value.is_empty() {
            return Ok(value);
        }
    }
}

impl Lowered {
    /// What its user may want to know.
    pub(super) fn tell(&self) -> Result<(), CliError> {
        for secret in &self.secrets {
            output::line(format_args!("keeps secret {}", secret.rule.name))?;
        }
        for path in &self.lent {
            let text =
                format!("lends {path} read-only; --mount {path}:{path}:rw lends it to be written");
            output::line(output::safe(&text))?;
        }
        Ok(())
    }
}

fn refused(error: &StartError) -> CliError {
    let message = format!("failed to {error}");
    match error {
        StartError::Exposed { .. } | StartError::SecretPart { .. } => {
            CliError::new(Kind::Refused, message)
        }
        _ => CliError::usage(message),
    }
}
