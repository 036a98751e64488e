//! The servers that stand in a client's file.

use std::collections::BTreeMap;

use jsonc_parser::ast::{Object, ObjectProp, Value};
use jsonc_parser::common::Ranged;
use serde::{Deserialize, Serialize};

use super::document::name;
use super::{ClientFile, ClientFileError, Fault, Start};
use crate::config::is_variable;

/// Keys from the top of a file to the object whose keys are servers.
pub type Place = Vec<String>;

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spot {
    pub place: Place,
    /// As the client calls the server.
    pub name: String,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub spot: Spot,
    pub is: Found,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Stdio(Stdio),
    /// Its address.
    Remote(String),
    /// Neither command nor address: settings of an extension that brings the server.
    Settings,
    Faulty(ClientFileError),
}

/// A server that the client starts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stdio {
    pub command: String,
    pub args: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: Option<String>,
    /// A file with further variables, which the client reads.
    pub env_file: Option<String>,
    pub disabled: bool,
}

/// Keys of addresses, in the clients' several spellings.
const ADDRESSES: [&str; 4] = ["url", "httpUrl", "serverUrl", "uri"];

impl<'t> ClientFile<'t> {
    /// The servers at these places, in the order of the file.
    pub fn servers(&self, places: &[Place]) -> Result<Vec<Listed>, ClientFileError> {
        let mut all = Vec::new();
        for place in places {
            let Some(servers) = self.at(place)? else { continue };
            let properties = self.properties(servers)?.iter();
            all.extend(properties.map(|property| self.listed(place, property)));
        }
        Ok(all)
    }

    /// The object at this place.
    pub(super) fn at(&self, place: &[String]) -> Result<Option<&Object<'t>>, ClientFileError> {
        let mut object = self.root.as_ref();
        for key in place {
            let Some(outer) = object else { return Ok(None) };
            object = self.object(outer, key)?;
        }
        Ok(object)
    }

    /// The entry itself.
    pub(super) fn entry(&self, spot: &Spot) -> Result<Option<&ObjectProp<'t>>, ClientFileError> {
        match self.at(&spot.place)? {
            Some(servers) => self.property(servers, &spot.name),
            None => Ok(None),
        }
    }

    fn listed(&self, place: &Place, property: &ObjectProp<'t>) -> Listed {
        let found = match &property.value {
            Value::Object(entry) => self.found(entry),
            other => Err(self.wrong(other, name(property), "an object")),
        };
        Listed {
            spot: Spot { place: place.clone(), name: name(property).to_owned() },
            is: found.unwrap_or_else(Found::Faulty),
        }
    }

    fn found(&self, entry: &Object<'t>) -> Result<Found, ClientFileError> {
        if let Some(stdio) = self.stdio(entry)? {
            return Ok(Found::Stdio(stdio));
        }
        for key in ADDRESSES {
            if let Some(address) = self.string(entry, key)? {
                return Ok(Found::Remote(address));
            }
        }
        Ok(Found::Settings)
    }

    /// `None` for an entry without a command.
    pub(super) fn stdio(&self, entry: &Object<'t>) -> Result<Option<Stdio>, ClientFileError> {
        let (inner, key) = self.program(entry)?;
        let Some(command) = self.string(inner, key)? else { return Ok(None) };
        if command.trim().is_empty() {
            return Err(self.fault(inner.start(), Fault::NoCommand));
        }
        let is_off = self.flag(entry, "disabled")? == Some(true);
        let is_on = self.flag(entry, "enabled")?.unwrap_or(true);
        Ok(Some(Stdio {
            command,
            args: self.args(inner)?,
            env: self.env(inner)?,
            cwd: self.string(entry, "cwd")?,
            env_file: self.string(entry, "envFile")?,
            disabled: is_off || !is_on,
        }))
    }

    /// The object with the program and its arguments, and the program's key. In Zed's older form that is an object
    /// of its own.
    pub(super) fn program<'o>(
        &self,
        entry: &'o Object<'t>,
    ) -> Result<(&'o Object<'t>, &'static str), ClientFileError> {
        let command = self.property(entry, "command")?.map(|property| &property.value);
        Ok(match command {
            Some(Value::Object(inner)) => (inner, "path"),
            _ => (entry, "command"),
        })
    }

    /// What an entry starts, whatever else is in it.
    pub(super) fn start(&self, entry: &Object<'t>) -> Result<Option<Start>, ClientFileError> {
        let (inner, key) = self.program(entry)?;
        let command = self.string(inner, key)?;
        let args = self.args(inner)?;
        Ok(command.map(|command| Start { command, args }))
    }

    fn args(&self, inner: &Object<'t>) -> Result<Vec<String>, ClientFileError> {
        let Some(args) = self.array(inner, "args")? else { return Ok(Vec::new()) };
        args.elements.iter().map(|value| self.word(value, "an argument")).collect()
    }

    fn env(&self, inner: &Object<'t>) -> Result<BTreeMap<String, String>, ClientFileError> {
        let mut env = BTreeMap::new();
        let Some(pairs) = self.object(inner, "env")? else { return Ok(env) };
        for pair in self.properties(pairs)? {
            let key = name(pair).to_owned();
            if !is_variable(&key) {
                return Err(self.fault(pair.start(), Fault::Variable(key)));
            }
            let value = match &pair.value {
                Value::NumberLit(number) => number.value.to_owned(),
                Value::BooleanLit(flag) => flag.value.to_string(),
                // The client takes the variable away.
                Value::NullKeyword(_) => continue,
                other => self.word(other, &key)?,
            };
            env.insert(key, value);
        }
        Ok(env)
    }
}
