//! From an entry of a client's to one of osvm's.

use std::collections::{BTreeMap, BTreeSet};

use osvm_spec::clients::{Stdio, refers, with_folders};
use osvm_spec::config::Entry;
use osvm_spec::packages::{Recognised, recognise};
use osvm_spec::{SecretRule, ServerName, Source, command, containers, holds_secret, secret_words};

use super::outcome::Became;
use crate::error::CliError;
use crate::secret_files::KeptSecret;
use crate::{environment, registration};

/// What importing one server would do.
pub(super) struct Plan {
    pub(super) entry: Entry,
    pub(super) secrets: Vec<KeptSecret>,
    /// Variables that stay in the client's entry, because the client fills them in.
    kept: BTreeSet<String>,
    /// To be said aloud.
    pub(super) notes: Vec<String>,
}

/// Whether an entry is one that osvm wrote, or a user in its manner.
pub(super) fn is_osvm(stdio: &Stdio) -> bool {
    let program = stdio.command.rsplit('/').next();
    let is_run = matches!(&stdio.args[..], [mcp, run, _] if mcp == "mcp" && run == "run");
    program == Some("osvm") && is_run
}

impl Plan {
    pub(super) fn of(name: &ServerName, stdio: &Stdio) -> Result<Self, CliError> {
        let mut notes = notes(stdio);
        let words: Vec<_> = [&stdio.command].into_iter().chain(&stdio.args).collect();
        let command =
            words.into_iter().map(|word| filled_in(word)).collect::<Result<Vec<_>, _>>()?;
        let env = handed_on(&command, &stdio.env, &mut notes)?;
        let entry = Entry { command, env, ..Entry::new(name.clone()) };
        let entry = registration::lowered(entry)?;
        check_program(&entry)?;
        for word in secret_words(&entry.command) {
            notes.push(format!(
                "word {} of its command looks like a secret, and stands in the configuration file in plain text",
                word + 1
            ));
        }
        let mut plan = Self { entry, secrets: Vec::new(), kept: BTreeSet::new(), notes };
        plan.sort_variables()?;
        Ok(plan)
    }

    /// Plain values stay; the others become secrets, from a file or from the client.
    fn sort_variables(&mut self) -> Result<(), CliError> {
        for (name, value) in std::mem::take(&mut self.entry.env) {
            if refers(&value) {
                let rule: SecretRule = name
                    .parse()
                    .map_err(|_| CliError::failed(format!("{name:?} can't be a secret's name")))?;
                self.entry.secrets.push(rule);
                self.kept.insert(name);
            } else if holds_secret(&name, &value) {
                let secret = KeptSecret::new(&self.entry.id, &name, value)?;
                self.entry.secrets.push(secret.rule.clone());
                self.secrets.push(secret);
            } else {
                self.entry.env.insert(name, value);
            }
        }
        Ok(())
    }

    /// What there is to do when the name is taken. Grants that were made since are no difference.
    pub(super) fn compare(self, registered: &Entry) -> Result<Became, CliError> {
        let say = |entry: &Entry| {
            let secrets: BTreeSet<_> = entry.secrets.iter().map(ToString::to_string).collect();
            (entry.command.clone(), entry.image.clone(), entry.env.clone(), secrets)
        };
        let is_same = say(&self.entry) == say(registered)
            && self.entry.folders.iter().all(|folder| registered.folders.contains(folder))
            && self.secrets.iter().all(KeptSecret::is_written);
        match is_same {
            true => Ok(Became::There { kept: self.kept }),
            false => {
                let name = &registered.id;
                let message =
                    format!("another server is registered as {name}, or an older form of it");
                Err(CliError::failed(message).hint(format!("osvm mcp remove {name}")))
            }
        }
    }

    pub(super) fn imported(self) -> Became {
        let secrets = self.secrets.iter().map(|secret| secret.rule.name.clone()).collect();
        let is_given = |rule: &&SecretRule| matches!(rule.source, Source::Environment(_));
        let given = self.entry.secrets.iter().filter(is_given).map(|rule| rule.name.clone());
        let folders = self.entry.folders.iter().map(ToString::to_string);
        Became::Imported {
            secrets,
            from_environment: given.collect(),
            folders: folders.collect(),
            kept: self.kept,
        }
    }
}

/// What is read and can't be taken over.
fn notes(stdio: &Stdio) -> Vec<String> {
    let mut notes = Vec::new();
    if stdio.disabled {
        notes.push("it is disabled in the client, and enabled in osvm".to_owned());
    }
    if let Some(file) = &stdio.env_file {
        notes.push(format!(
            "variables of {file} are not read; name them as secrets = [\"NAME\"] in its entry"
        ));
    }
    notes
}

/// The word with known folders put in. What else the client would fill in is not known to osvm.
fn filled_in(word: &str) -> Result<String, CliError> {
    let home = environment::user_home();
    let current = environment::current_folder();
    let fill = |text: &str| {
        let home = home.as_deref().and_then(|home| home.to_str());
        with_folders(text, home, current.as_deref())
    };
    let word = match word.split_once('=') {
        Some((flag, value)) if flag.starts_with('-') => format!("{flag}={}", fill(value)),
        _ => fill(word),
    };
    match refers(&word) {
        false => Ok(word),
        true => {
            let message =
                format!("{word:?} is filled in by the client, which osvm's server does not see");
            Err(CliError::failed(message).hint("give it to the server as a variable, under env"))
        }
    }
}

/// A container has only those variables of its tool's that are handed on by name.
fn handed_on(
    command: &[String],
    env: &BTreeMap<String, String>,
    notes: &mut Vec<String>,
) -> Result<BTreeMap<String, String>, CliError> {
    let run = containers::recognise(command).map_err(|error| {
        let refused = CliError::failed(error.to_string());
        error.hint().into_iter().fold(refused, CliError::hint)
    })?;
    let Some(run) = run else { return Ok(env.clone()) };
    let is_passed = |name: &String| run.passed.contains(name);
    for name in env.keys().filter(|name| !is_passed(name)) {
        notes.push(format!("variable {name} is the container tool's own, and left out"));
    }
    let passed = env.iter().filter(|(name, _)| is_passed(name));
    Ok(passed.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// A program must be in an image, and no image is named but by packages and containers.
fn check_program(entry: &Entry) -> Result<(), CliError> {
    let refused = |message: String, hint: String| Err(CliError::failed(message).hint(hint));
    if entry.image.is_some() || containers::recognise(&entry.command).is_ok_and(|run| run.is_some())
    {
        return Ok(());
    }
    let (name, line) = (&entry.id, command::join(&entry.command));
    let recognised = recognise(&entry.command, None).map_err(|error| {
        let refused = CliError::failed(error.to_string());
        error.hint().into_iter().fold(refused, CliError::hint)
    })?;
    match recognised {
        Recognised::Package(_) => Ok(()),
        Recognised::Module(module) => refused(
            format!("nobody said which package has the module {module}"),
            format!("osvm mcp add {name} --image pypi:PACKAGE -- {line}"),
        ),
        Recognised::Plain => refused(
            format!(
                "{} is a program of this host, and no image that has it is known",
                entry.command[0]
            ),
            format!("osvm mcp add {name} --image REF -- {line}"),
        ),
    }
}
