//! The text of what is installed: written in one way only, and read again.

use std::fmt;
use std::str::FromStr;

use super::{Ecosystem, Install, Package, PackageError, Program, flags};
use crate::command;

impl Ecosystem {
    pub const ALL: [Self; 2] = [Self::Npm, Self::PyPi];

    /// The ecosystem that a text says it is of, and the rest.
    pub(crate) fn split(text: &str) -> Option<(Self, &str)> {
        let of = |ecosystem: Self| text.strip_prefix(ecosystem.as_str())?.strip_prefix(':');
        Self::ALL.into_iter().find_map(|ecosystem| Some((ecosystem, of(ecosystem)?)))
    }
}

impl Install {
    /// The package and nothing else.
    pub fn of(ecosystem: Ecosystem, package: Package) -> Self {
        Self { ecosystem, package, with: Vec::new(), python: None, program: Program::Default }
    }

    /// Refuses what only Python's packages have where npm's are meant, and a version that is none.
    pub(super) fn checked(mut self) -> Result<Self, PackageError> {
        if let Some(python) = self.python.take() {
            let version = python.trim_start_matches("python").trim_start_matches("cpython@");
            let mut parts = version.split('.');
            let plain = parts.clone().count() <= 3 && parts.all(is_number);
            self.python = Some(version.to_owned()).filter(|_| plain);
            if self.python.is_none() {
                return Err(PackageError::Python(python));
            }
        }
        let python_only = match (&self.python, &self.program) {
            (Some(version), _) => Some(version),
            (None, Program::Module(module)) => Some(module),
            (None, _) => None,
        };
        match python_only {
            Some(what) if self.ecosystem == Ecosystem::Npm => {
                Err(PackageError::PythonOnly(what.clone()))
            }
            _ => Ok(self),
        }
    }

    fn words(&self) -> Vec<String> {
        let spec = |package| self.ecosystem.spec(package);
        let mut words = vec![spec(&self.package)];
        words.extend(self.with.iter().flat_map(|with| ["--with".to_owned(), spec(with)]));
        words.extend(self.python.iter().flat_map(|v| ["--python".to_owned(), v.clone()]));
        match &self.program {
            Program::Default => {}
            Program::Named(name) => words.extend(["--bin".to_owned(), name.clone()]),
            Program::Module(name) => words.extend(["--module".to_owned(), name.clone()]),
        }
        words
    }
}

/// Quotes no `=` and no `,`, which shells leave alone within a word and versions are full of.
fn quote(word: String) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@/:._-+=,".contains(c);
    if word.chars().all(plain) { word } else { command::join(&[word]) }
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit())
}

impl Program {
    pub fn named(name: &str) -> Result<Self, PackageError> {
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.+".contains(c));
        match plain && !name.is_empty() && !name.starts_with(['-', '.']) {
            true => Ok(Self::Named(name.to_owned())),
            false => Err(PackageError::Program(name.to_owned())),
        }
    }

    pub fn module(name: &str) -> Result<Self, PackageError> {
        let is_part = |part: &str| {
            part.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_alphanumeric() || c == '_')
        };
        match name.split('.').all(is_part) {
            true => Ok(Self::Module(name.to_owned())),
            false => Err(PackageError::Module(name.to_owned())),
        }
    }
}

impl FromStr for Install {
    type Err = PackageError;

    fn from_str(text: &str) -> Result<Self, PackageError> {
        let (ecosystem, rest) =
            Ecosystem::split(text).ok_or_else(|| PackageError::Text(text.to_owned()))?;
        let words = command::split(rest).map_err(|_| PackageError::Text(text.to_owned()))?;
        let said = flags::text(ecosystem).read(&words)?;
        let package = match said.rest.as_slice() {
            [] => return Err(PackageError::Text(text.to_owned())),
            [package] => ecosystem.package(package)?,
            [package, next, ..] => {
                return Err(PackageError::Trailing(package.clone(), next.clone()));
            }
        };
        let with = said.with.iter().map(|with| ecosystem.package(with));
        let program = match (said.bin, said.module) {
            (None, None) => Program::Default,
            (Some(bin), None) => Program::named(&bin)?,
            (None, Some(module)) => Program::module(&module)?,
            (Some(_), Some(_)) => {
                return Err(PackageError::Twice { runner: "the package", flag: "--bin" });
            }
        };
        let with = with.collect::<Result<_, _>>()?;
        Self { ecosystem, package, with, python: said.python, program }.checked()
    }
}

impl fmt::Display for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.words().into_iter().map(quote).collect();
        write!(f, "{}:{}", self.ecosystem, words.join(" "))
    }
}

impl TryFrom<String> for Install {
    type Error = PackageError;

    fn try_from(text: String) -> Result<Self, PackageError> {
        text.parse()
    }
}

impl From<Install> for String {
    fn from(install: Install) -> Self {
        install.to_string()
    }
}
