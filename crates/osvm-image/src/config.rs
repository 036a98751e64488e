//! What an image says of itself: the keys of an OCI image configuration's `config` object, in a
//! file at the image's root.

use std::collections::BTreeSet;

use osvm_spec::lock::Pin;
use serde::{Deserialize, Serialize};

/// Where a folder or an archive may hold it.
pub(crate) const CONFIG_FILE: &str = ".osvm-image.json";

/// More than any honest one.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// How to start what is in the image. Every key may be absent, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    /// `NAME=value`
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    /// Which packages are in it, and where from: what osvm itself has installed.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    packages: BTreeSet<Pin>,
}

impl Config {
    /// Of an image that says nothing but how its server is started.
    pub fn new(entrypoint: Vec<String>, env: Vec<String>) -> Self {
        Self { entrypoint: Some(entrypoint), env: Some(env), ..Self::default() }
    }

    /// The same, started in this folder of the image.
    #[must_use]
    pub fn within(self, folder: &str) -> Self {
        Self { working_dir: Some(folder.to_owned()), ..self }
    }

    #[must_use]
    pub fn with_packages(self, packages: BTreeSet<Pin>) -> Self {
        Self { packages, ..self }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// As a file at the root of an image, by which its digest covers how it is started.
    pub(crate) fn file(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it is plain data")
    }

    /// Entrypoint and arguments.
    pub(crate) fn command(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).flatten().cloned().collect()
    }

    /// How many of its last words give way to arguments.
    pub(crate) fn arguments(&self) -> usize {
        self.cmd.as_ref().map_or(0, Vec::len)
    }

    pub(crate) fn env(&self) -> Vec<(String, String)> {
        let pairs = self.env.iter().flatten().filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    pub(crate) fn user(&self) -> Option<String> {
        self.user.clone().filter(|user| !user.is_empty())
    }

    pub(crate) fn working_dir(&self) -> Option<String> {
        self.working_dir.clone().filter(|folder| !folder.is_empty())
    }

    pub(crate) fn packages(&self) -> &BTreeSet<Pin> {
        &self.packages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_entrypoint_and_arguments() {
        let config =
            br#"{"Entrypoint":["/bin/a"],"Cmd":["-b"],"Env":["C=d=e"],"User":"1000","Other":1}"#;
        let config = Config::parse(config).unwrap();
        assert_eq!(config.command(), ["/bin/a", "-b"]);
        assert_eq!(config.env(), [("C".to_owned(), "d=e".to_owned())]);
        assert_eq!(config.user(), Some("1000".to_owned()));
        assert_eq!(config.working_dir(), None);
        assert_eq!(Config::parse(&config.file()).unwrap(), config);
    }

    #[test]
    fn keys_may_be_nothing() {
        let config = Config::parse(br#"{"Entrypoint":null,"Cmd":["a"],"Env":null}"#).unwrap();
        assert_eq!((config.command(), config.env()), (vec!["a".to_owned()], Vec::new()));
    }
}
