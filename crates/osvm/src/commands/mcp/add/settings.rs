//! A bundle's settings: what `--set` gives, and what the user is asked for beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use osvm_daemon::bundles::{Manifest, Setting, SettingKind};

use crate::error::CliError;
use crate::{environment, output, terminal};

/// Values of settings, as far as they are known.
#[derive(Default)]
pub(super) struct Given {
    /// Paths are absolute.
    pub(super) open: BTreeMap<String, Vec<String>>,
    pub(super) secret: BTreeMap<String, String>,
}

/// `KEY=VALUE`. The value may be a secret, so no error repeats it.
pub(super) fn parse(text: &str) -> Result<(String, String), CliError> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err(CliError::usage("--set needs KEY=VALUE")),
    }
}

impl Given {
    /// By what kind of setting each is for.
    pub(super) fn sorted(
        manifest: &Manifest,
        set: Vec<(String, String)>,
    ) -> Result<Self, CliError> {
        let mut given = Self::default();
        for (key, value) in set {
            let setting = manifest.settings.get(&key).ok_or_else(|| unknown(&key, manifest))?;
            match setting.sensitive {
                true => drop(given.secret.insert(key, value)),
                false => given.open.entry(key).or_default().push(value),
            }
        }
        for (key, values) in &mut given.open {
            *values = accepted(key, &manifest.settings[key], values)?;
        }
        Ok(given)
    }

    pub(super) fn secret(&self, key: &str) -> Option<&str> {
        self.secret.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }
}

fn unknown(key: &str, manifest: &Manifest) -> CliError {
    let error = CliError::usage(format!("the bundle {} has no setting {key}", manifest.label()));
    manifest.settings.keys().fold(error, |error, known| error.hint(format!("--set {known}=...")))
}

/// As the server is going to be given them.
fn accepted(key: &str, setting: &Setting, values: &[String]) -> Result<Vec<String>, CliError> {
    let absolute = |value: &String| match setting.is_path() {
        true => path(key, setting.kind, value),
        false => Ok(value.clone()),
    };
    setting.check(key, values).map_err(|error| CliError::usage(error.to_string()))?;
    values.iter().map(absolute).collect()
}

/// A folder or file of this host's, seen from the current folder.
fn path(key: &str, kind: SettingKind, written: &str) -> Result<String, CliError> {
    let path = match written.starts_with('~') {
        true => environment::expand(written)?,
        false => environment::absolute(Path::new(written))?,
    };
    let wrong = |why: &str| {
        CliError::usage(format!("setting {key} is a {kind}, and {}: {why}", path.display()))
    };
    let found = fs::metadata(&path).map_err(|error| wrong(&error.to_string()))?;
    if found.is_dir() != (kind == SettingKind::Directory) {
        return Err(wrong(if found.is_dir() { "it is a folder" } else { "it is no folder" }));
    }
    super::text(&path)
}

/// Asks for what is missing, where somebody answers.
pub(super) fn complete(manifest: &Manifest, given: &mut Given) -> Result<(), CliError> {
    let missing: Vec<_> = manifest.missing(&given.open).collect();
    if !missing.is_empty() && !terminal::is_attended() {
        return Err(needs(manifest, &missing));
    }
    for (key, setting) in missing {
        given.open.insert(key.clone(), ask(key, setting)?);
    }
    Ok(())
}

fn needs(manifest: &Manifest, missing: &[(&String, &Setting)]) -> CliError {
    let told = |(key, setting): &(&String, &Setting)| {
        format!("{key} ({}: {})", setting.kind, setting.title)
    };
    let told: Vec<_> = missing.iter().map(told).collect();
    let message = format!("the bundle {} needs {}", manifest.label(), told.join(", "));
    missing.iter().fold(CliError::usage(message), |error, (key, setting)| {
        let proposal = setting.proposal().into_iter().next();
        error.hint(format!("--set {key}={}", proposal.as_deref().unwrap_or("...")))
    })
}

/// Until the answer is one that the setting takes.
fn ask(key: &str, setting: &Setting) -> Result<Vec<String>, CliError> {
    loop {
        match accepted(key, setting, &answers(setting)?) {
            Ok(values) if values.iter().any(|value| !value.is_empty()) => return Ok(values),
            Ok(_) => output::warning("it has to be given"),
            Err(error) => output::warning(error.message()),
        }
    }
}

/// One line, or as many as there are before an empty one. Nothing at all means what the bundle proposes.
fn answers(setting: &Setting) -> Result<Vec<String>, CliError> {
    let proposal = setting.proposal();
    let mut kind = setting.kind.to_string();
    if !proposal.is_empty() {
        kind = format!("{kind}, {}", proposal.join(" "));
    }
    if setting.multiple {
        kind += ", several lines";
    }
    let mut answers = vec![terminal::ask(&question(setting, &kind))?];
    while setting.multiple && answers.last().is_some_and(|last| !last.is_empty()) {
        answers.push(terminal::ask("  ")?);
    }
    answers.retain(|answer| !answer.is_empty());
    Ok(if answers.is_empty() { proposal } else { answers })
}

pub(super) fn question(setting: &Setting, kind: &str) -> String {
    let description = match setting.description.as_str() {
        "" => String::new(),
        description => format!("{description}\n"),
    };
    format!("{description}{} ({kind}): ", setting.title)
}
