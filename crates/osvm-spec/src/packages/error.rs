//! Why a command or a text is no package that osvm installs.

use thiserror::Error;

use super::{Ecosystem, Elsewhere};

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PackageError {
    #[error("{name:?} is no name of a package on {ecosystem}: {why}")]
    Name { ecosystem: Ecosystem, name: String, why: &'static str },
    #[error("package {name}: {wanted:?} is no version, range or tag that {ecosystem} knows")]
    Wanted { ecosystem: Ecosystem, name: String, wanted: String },
    #[error("package {0:?} has a condition (';'), which osvm does not read")]
    Marker(String),
    #[error("package {spec:?} is {place}, and osvm installs from a registry only")]
    Elsewhere { spec: String, place: Elsewhere },
    #[error("{runner} has flag {flag}, which osvm does not know; it knows {}", .known.join(", "))]
    UnknownFlag { runner: &'static str, flag: String, known: Vec<&'static str> },
    #[error("{runner} has flag {flag}, which osvm does not follow: {why}")]
    RefusedFlag { runner: &'static str, flag: String, why: &'static str },
    #[error("{runner} has flag {flag} without its value")]
    NoValue { runner: &'static str, flag: String },
    #[error("{runner} has flag {flag} with a value, and it takes none")]
    UnwantedValue { runner: &'static str, flag: String },
    #[error("{runner} has flag {flag} twice")]
    Twice { runner: &'static str, flag: &'static str },
    #[error("{0} names no package")]
    NoPackage(&'static str),
    #[error("{0} names packages, but no program of theirs")]
    NoProgram(&'static str),
    #[error("{runner} runs {line:?}, which needs a shell")]
    Shell { runner: &'static str, line: String },
    #[error("{0:?} is no name of an installed program")]
    Program(String),
    #[error("{0:?} is no name of a Python module")]
    Module(String),
    #[error("{0:?} is no version of Python such as 3.12")]
    Python(String),
    #[error("{0:?} is no package: it begins with neither npm: nor pypi:")]
    Text(String),
    #[error("package {0:?} is followed by {1:?}")]
    Trailing(String, String),
    #[error("{0:?} is for Python's packages, and the package is npm's")]
    PythonOnly(String),
    #[error("the command installs a package itself, and {0} is named besides")]
    NamedTwice(String),
    #[error("command has a quote that is never closed")]
    Unclosed,
}

impl PackageError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Elsewhere { .. } => {
                Some("name a published version, or give a folder that holds it as --image ./FOLDER")
            }
            Self::Marker(_) => Some("leave the condition out: the package is for Linux"),
            Self::UnknownFlag { .. } | Self::RefusedFlag { .. } => {
                Some("leave the flag out, or put it after the package if it is the server's own")
            }
            Self::NoProgram(_) => Some("name the program to run after the packages"),
            Self::Shell { .. } => Some("name one program with plain arguments"),
            _ => None,
        }
    }
}
