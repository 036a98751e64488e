//! What a bundle asks its user for (`user_config`), and whether a value is one that it takes.

use std::fmt;

use serde::Deserialize;

use super::SettingError;

#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Setting {
    #[serde(rename = "type")]
    pub kind: SettingKind,
    pub title: String,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub required: bool,
    /// Whether several values may be given.
    #[serde(default)]
    pub multiple: bool,
    /// Whether it is a secret, which is given by name and never as a value.
    #[serde(default)]
    pub sensitive: bool,
    pub min: Option<f64>,
    pub max: Option<f64>,
    default: Option<Default>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SettingKind {
    String,
    Number,
    Boolean,
    /// A folder of the host's that the server is lent.
    Directory,
    /// A file of the host's that the server is lent.
    File,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Default {
    Text(String),
    Flag(bool),
    Number(serde_json::Number),
    Several(Vec<String>),
}

/// What stands for the user's folders where a default names them, and where those are.
const HOMES: [(&str, &str); 4] = [
    ("${HOME}", "~"),
    ("${DESKTOP}", "~/Desktop"),
    ("${DOCUMENTS}", "~/Documents"),
    ("${DOWNLOADS}", "~/Downloads"),
];

impl Setting {
    /// What is taken when nothing is given. Never a path: what a bundle would like to be lent is a
    /// [proposal](Self::proposal). Never a secret: one that stands in a bundle is none.
    pub(super) fn default(&self) -> Vec<String> {
        if self.is_path() || self.sensitive { Vec::new() } else { self.written_default() }
    }

    /// The folders or files that a bundle asks for by itself, to be shown to the user, who may give them.
    /// `~` stands for the user's home.
    pub fn proposal(&self) -> Vec<String> {
        let at_home = |path: String| {
            HOMES.iter().fold(path, |path, (variable, home)| path.replace(variable, home))
        };
        match self.is_path() {
            true => self.written_default().into_iter().map(at_home).collect(),
            false => Vec::new(),
        }
    }

    /// Whether it has to be given, and these are nothing.
    pub(super) fn is_missing(&self, given: &[String]) -> bool {
        let is_empty = |values: &[String]| values.iter().all(String::is_empty);
        let values = if given.is_empty() { &self.default()[..] } else { given };
        self.required && is_empty(values)
    }

    pub fn is_path(&self) -> bool {
        matches!(self.kind, SettingKind::Directory | SettingKind::File)
    }

    fn written_default(&self) -> Vec<String> {
        let values = match &self.default {
            None => Vec::new(),
            Some(Default::Text(text)) => vec![text.clone()],
            Some(Default::Flag(flag)) => vec![flag.to_string()],
            Some(Default::Number(number)) => vec![number.to_string()],
            Some(Default::Several(values)) => values.clone(),
        };
        values.into_iter().filter(|value| !value.is_empty()).collect()
    }

    /// Why there can't be such a setting.
    pub(super) fn fault(&self, key: &str) -> Option<&'static str> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !key.chars().all(plain) || key.is_empty() || key.starts_with('.') {
            return Some("has a name of other than letters, digits, '-', '_' and '.'");
        }
        if self.sensitive && self.is_path() {
            return Some("is a path and a secret at once");
        }
        if self.sensitive && self.multiple {
            return Some("is a secret of several values");
        }
        self.check(key, &self.default()).is_err().then_some("has a default that it does not take")
    }

    /// Whether a user may give these.
    pub fn check(&self, key: &str, values: &[String]) -> Result<(), SettingError> {
        let key = key.to_owned();
        if values.len() > 1 && !self.multiple {
            return Err(SettingError::Several { key, count: values.len() });
        }
        if values.iter().any(|value| value.contains('\0')) {
            return Err(SettingError::ZeroByte(key));
        }
        if self.is_path() && values.iter().any(|value| value.contains(':')) {
            return Err(SettingError::Colon(key));
        }
        match values.iter().find(|value| !self.is_of_kind(value)) {
            Some(value) => {
                Err(SettingError::Type { key, kind: self.kind, value: value.to_owned() })
            }
            None => self.check_range(key, values),
        }
    }

    fn is_of_kind(&self, value: &str) -> bool {
        match self.kind {
            SettingKind::Number => value.parse::<f64>().is_ok_and(f64::is_finite),
            SettingKind::Boolean => matches!(value, "true" | "false"),
            SettingKind::String => true,
            SettingKind::Directory | SettingKind::File => !value.is_empty(),
        }
    }

    fn check_range(&self, key: String, values: &[String]) -> Result<(), SettingError> {
        let outside = |value: &&String| {
            let number = value.parse::<f64>().unwrap_or_default();
            self.min.is_some_and(|min| number < min) || self.max.is_some_and(|max| number > max)
        };
        let is_number = self.kind == SettingKind::Number;
        match values.iter().filter(|_| is_number).find(outside) {
            None => Ok(()),
            Some(value) => Err(SettingError::Range {
                key,
                value: value.clone(),
                min: self.min.map(|min| min.to_string()),
                max: self.max.map(|max| max.to_string()),
            }),
        }
    }
}

impl fmt::Display for SettingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Directory => "directory",
            Self::File => "file",
        })
    }
}
