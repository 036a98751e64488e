//! How a bundle's server is started: its manifest and what its user gave, put together.
//!
//! - A `sensitive` setting is a secret, and a secret travels by name, as a variable of the server's environment, until
//!   the session starts. So it may be the whole value of a variable and nothing else: in an argument, in the program,
//!   or as a part of a longer value it is refused, because osvm would have to hold and show it there.
//! - A `directory` or `file` becomes a mount at the path that it has on the host, so that the server is told what its
//!   user has said.
//! - A setting that was neither given nor has a default leaves out the argument or the variable that is nothing else,
//!   and is empty text within others.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use osvm_spec::config::is_variable;

use super::manifest::Manifest;
use super::settings::Setting;
use super::substitute::{Part, only_setting, parts, setting};
use super::{SettingError, StartError};

/// Where things are in the guest.
#[derive(Debug, Clone, Copy)]
pub struct Guest<'a> {
    /// The unpacked bundle, without a slash at the end.
    pub bundle: &'a str,
    /// Home of the server's user, without one, too.
    pub home: &'a str,
}

/// A server, ready to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The bundle's folder: manifests name files relative to it.
    pub working_dir: String,
    pub env: BTreeMap<String, String>,
    pub secrets: Vec<Secret>,
    /// Folders and files of the host's that the server is lent: absolute paths, the same in the guest.
    pub mounts: Vec<String>,
}

/// A variable whose value comes from elsewhere each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// In the server's environment.
    pub variable: String,
    /// The setting that it is.
    pub key: String,
    pub required: bool,
}

impl Manifest {
    /// Settings that have to be given and are not, but for secrets.
    pub fn missing<'m>(
        &'m self,
        given: &BTreeMap<String, Vec<String>>,
    ) -> impl Iterator<Item = (&'m String, &'m Setting)> {
        let is_missing = |(key, setting): &(&String, &Setting)| {
            !setting.sensitive && setting.is_missing(given.get(*key).map_or(&[], Vec::as_slice))
        };
        self.settings.iter().filter(is_missing)
    }

    /// Paths within the bundle that are run: the program, and what the manifest calls the entry point.
    pub(super) fn programs(&self) -> [PathBuf; 2] {
        let in_bundle = |part| match part {
            Part::Text(text) => text,
            Part::Variable("__dirname") => ".",
            Part::Variable("/" | "pathSeparator") => "/",
            Part::Variable(other) => other,
        };
        let program: String = parts(&self.command.program).into_iter().map(in_bundle).collect();
        [program.as_str(), &self.entry_point].map(|path| {
            let names = Path::new(path).components();
            names.filter(|name| matches!(name, Component::Normal(_))).collect()
        })
    }

    /// The server's start with these values, some for each setting that was given. Paths are absolute.
    pub fn start(
        &self,
        guest: &Guest<'_>,
        given: &BTreeMap<String, Vec<String>>,
    ) -> Result<Start, StartError> {
        if let Some(key) = given.keys().find(|key| !self.settings.contains_key(*key)) {
            return Err(StartError::UnknownSetting { key: key.clone() });
        }
        let mut values = Values { manifest: self, guest, of: BTreeMap::new(), mounts: Vec::new() };
        for (key, setting) in &self.settings {
            values.take(key, setting, given.get(key).map_or(&[], Vec::as_slice))?;
        }
        let (env, secrets) = values.environment()?;
        let command = values.command()?;
        let working_dir = guest.bundle.to_owned();
        Ok(Start { command, working_dir, env, secrets, mounts: values.mounts })
    }
}

/// What each setting stands for in the guest.
struct Values<'m> {
    manifest: &'m Manifest,
    guest: &'m Guest<'m>,
    of: BTreeMap<&'m str, Vec<String>>,
    mounts: Vec<String>,
}

type Environment = (BTreeMap<String, String>, Vec<Secret>);

impl<'m> Values<'m> {
    fn take(
        &mut self,
        key: &'m str,
        setting: &Setting,
        given: &[String],
    ) -> Result<(), StartError> {
        if setting.sensitive {
            return match given {
                [] => Ok(()),
                _ => Err(SettingError::Secret(key.to_owned()).into()),
            };
        }
        setting.check(key, given)?;
        if setting.is_missing(given) {
            let (key, title) = (key.to_owned(), setting.title.clone());
            return Err(StartError::Missing { key, title });
        }
        let values = if given.is_empty() { setting.default() } else { given.to_vec() };
        if setting.is_path() {
            self.mounts.extend_from_slice(&values);
        }
        self.of.insert(key, values);
        Ok(())
    }

    fn environment(&self) -> Result<Environment, StartError> {
        let (mut env, mut secrets) = Environment::default();
        for (variable, text) in &self.manifest.command.env {
            if !is_variable(variable) {
                return Err(StartError::Variable(variable.clone()));
            }
            if let Some(secret) = self.secret(variable, text)? {
                secrets.push(secret);
            } else if let Some(value) = self.variable(variable, text)? {
                env.insert(variable.clone(), value);
            }
        }
        Ok((env, secrets))
    }

    fn secret(&self, variable: &str, text: &str) -> Result<Option<Secret>, StartError> {
        let Some(key) = only_setting(text) else { return Ok(None) };
        let setting = self.setting(key)?;
        let (variable, key) = (variable.to_owned(), key.to_owned());
        Ok(setting.sensitive.then_some(Secret { variable, key, required: setting.required }))
    }

    /// Nothing where it would be a setting that has no value.
    fn variable(&self, variable: &str, text: &str) -> Result<Option<String>, StartError> {
        if only_setting(text).is_some_and(|key| self.of.get(key).is_some_and(Vec::is_empty)) {
            return Ok(None);
        }
        self.text(text, "an environment variable").map(Some).map_err(|error| match error {
            StartError::Exposed { key, .. } => {
                StartError::SecretPart { key, variable: variable.to_owned() }
            }
            error => error,
        })
    }

    fn command(&self) -> Result<Vec<String>, StartError> {
        let program = self.text(&self.manifest.command.program, "the program")?;
        if program.is_empty() {
            return Err(StartError::NoCommand);
        }
        let mut command = vec![program];
        for arg in &self.manifest.command.args {
            match only_setting(arg) {
                Some(key) if !self.setting(key)?.sensitive => {
                    command.extend_from_slice(&self.of[key]);
                }
                _ => command.push(self.text(arg, "an argument")?),
            }
        }
        Ok(command)
    }

    fn text(&self, text: &str, place: &'static str) -> Result<String, StartError> {
        if text.contains('\0') {
            return Err(StartError::ZeroByte(place));
        }
        let mut out = String::new();
        for part in parts(text) {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Variable(name) => out.push_str(&self.value(name, place)?),
            }
        }
        Ok(out)
    }

    /// Other names in `${}` are the server's own business.
    fn value(&self, name: &str, place: &'static str) -> Result<String, StartError> {
        if let Some(key) = setting(name) {
            return self.one(key, place);
        }
        let Guest { bundle, home, .. } = self.guest;
        Ok(match name {
            "__dirname" => (*bundle).to_owned(),
            "/" | "pathSeparator" => "/".to_owned(),
            "HOME" => (*home).to_owned(),
            "DESKTOP" => format!("{home}/Desktop"),
            "DOCUMENTS" => format!("{home}/Documents"),
            "DOWNLOADS" => format!("{home}/Downloads"),
            other => format!("${{{other}}}"),
        })
    }

    fn one(&self, key: &str, place: &'static str) -> Result<String, StartError> {
        if self.setting(key)?.sensitive {
            return Err(StartError::Exposed { key: key.to_owned(), place });
        }
        match self.of[key].as_slice() {
            [] => Ok(String::new()),
            [value] => Ok(value.clone()),
            _ => Err(StartError::Several { key: key.to_owned(), place }),
        }
    }

    fn setting(&self, key: &str) -> Result<&Setting, StartError> {
        let undeclared = || StartError::Undeclared { key: key.to_owned() };
        self.manifest.settings.get(key).ok_or_else(undeclared)
    }
}
