//! Choices with few answers: which VMM, how strictly a server is kept apart.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The program that runs guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hypervisor {
    /// Firecracker where KVM is usable, else QEMU.
    #[default]
    Auto,
    Firecracker,
    Qemu,
}

/// Which features of the host's processor a guest sees: all, or those that a kind of host has in
/// common. Firecracker's own templates; it refuses one that the host's processor can't follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuTemplate {
    #[default]
    None,
    C3,
    T2,
    T2S,
    T2CL,
    T2A,
}

/// What the VMs of a server begin as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TemplateLevel {
    /// A machine that boots.
    None,
    /// A clone of one that has booted, of which nothing else is known: no server has run in it.
    #[default]
    Booted,
    /// A clone of one in which the server's process waits to be spoken to.
    Started,
}

/// Where a server's process runs, from loosest to strictest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// A plain host process. Never chosen by osvm itself.
    None,
    /// A microVM for the server.
    #[default]
    Microvm,
    /// A fresh microVM for each call.
    Ephemeral,
}

/// A word that is none of the answers.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{given:?} is not one of: {}", .answers.join(", "))]
pub struct ChoiceError {
    pub given: String,
    pub answers: Vec<&'static str>,
}

impl Hypervisor {
    pub const ALL: [Self; 3] = [Self::Auto, Self::Firecracker, Self::Qemu];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Firecracker => "firecracker",
            Self::Qemu => "qemu",
        }
    }
}

impl CpuTemplate {
    pub const ALL: [Self; 6] = [Self::None, Self::C3, Self::T2, Self::T2S, Self::T2CL, Self::T2A];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::C3 => "c3",
            Self::T2 => "t2",
            Self::T2S => "t2s",
            Self::T2CL => "t2cl",
            Self::T2A => "t2a",
        }
    }
}

impl TemplateLevel {
    pub const ALL: [Self; 3] = [Self::None, Self::Booted, Self::Started];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Booted => "booted",
            Self::Started => "started",
        }
    }
}

impl Isolation {
    pub const ALL: [Self; 3] = [Self::None, Self::Microvm, Self::Ephemeral];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Microvm => "microvm",
            Self::Ephemeral => "ephemeral",
        }
    }
}

fn pick<T: Copy>(all: &[T], name: fn(T) -> &'static str, given: &str) -> Result<T, ChoiceError> {
    all.iter().copied().find(|choice| name(*choice) == given).ok_or_else(|| ChoiceError {
        given: given.to_owned(),
        answers: all.iter().copied().map(name).collect(),
    })
}

impl FromStr for Hypervisor {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        pick(&Self::ALL, Self::as_str, text)
    }
}

impl FromStr for CpuTemplate {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        pick(&Self::ALL, Self::as_str, text)
    }
}

impl FromStr for TemplateLevel {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        pick(&Self::ALL, Self::as_str, text)
    }
}

impl FromStr for Isolation {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        pick(&Self::ALL, Self::as_str, text)
    }
}

impl fmt::Display for Hypervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for CpuTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for TemplateLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_read_as_it_is_shown() {
        for choice in Hypervisor::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        for choice in CpuTemplate::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        for choice in TemplateLevel::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        for choice in Isolation::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
    }

    #[test]
    fn another_word_is_answered_with_the_choices() {
        let error = "docker".parse::<Isolation>().unwrap_err();
        assert_eq!(error.to_string(), r#""docker" is not one of: none, microvm, ephemeral"#);
    }

    #[test]
    fn isolation_is_ordered_from_loose_to_strict() {
        assert!(Isolation::None < Isolation::Microvm && Isolation::Microvm < Isolation::Ephemeral);
    }
}
