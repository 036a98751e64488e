//! Which of a server's tools may be called, and within which limits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A tool's name, or with `*`, which stands for any characters, those of several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ToolPattern(String);

/// What holds for the tools of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolPolicy {
    /// `None` for every tool that is not denied.
    pub allowed: Option<Vec<ToolPattern>>,
    /// Stronger than `allowed`.
    pub denied: Vec<ToolPattern>,
    /// Of all tools together.
    #[serde(default)]
    pub calls_per_minute: Option<NonZeroU32>,
    /// By name; a tool that is not among them has none.
    pub limits: BTreeMap<String, ToolLimits>,
}

/// What holds for a call of one tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolLimits {
    /// As those that [`ToolPolicy::denied`] names.
    pub denied: bool,
    /// Whether the user is asked before each call.
    pub confirm: bool,
    /// Of the result as JSON.
    pub max_result_bytes: Option<u64>,
    pub timeout: Option<Duration>,
    #[serde(default)]
    pub calls_per_minute: Option<NonZeroU32>,
}

/// Why a tool may not be called. Completes "policy refuses it: ...".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denial {
    #[error("it is denied")]
    Denied,
    #[error("it is not among the tools that are allowed")]
    NotAllowed,
}

/// Why a text names no tools.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ToolPatternError {
    #[error("a tool's name is empty")]
    Empty,
    #[error("tool {0:?} contains a control character")]
    Control(String),
    #[error("tool {0:?} has more than {limit} characters", limit = ToolPattern::LONGEST)]
    TooLong(String),
}

impl ToolPattern {
    /// In bytes. The revision of 2025-11-25 advises 128 at most; names in use may be longer.
    pub const LONGEST: usize = 256;

    pub fn has(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        // The earliest place of each part leaves the most for those that follow.
        let middle = parts.try_fold(rest, |rest, part| Some(rest.split_once(part)?.1));
        middle.is_some_and(|rest| rest.ends_with(last))
    }

    /// What has all names that this one has behind `prefix`, and no other.
    pub fn after(&self, prefix: &str) -> Vec<Self> {
        let own = self.0.as_bytes();
        // Places in the pattern that the prefix can end at.
        let mut places = BTreeSet::from([0]);
        for byte in prefix.bytes() {
            let mut next = BTreeSet::new();
            for place in places {
                let stars = own[place..].iter().take_while(|own| **own == b'*').count();
                if stars > 0 {
                    next.insert(place);
                }
                if own.get(place + stars) == Some(&byte) {
                    next.insert(place + stars + 1);
                }
            }
            places = next;
        }
        // No tool has an empty name.
        let rests = places.into_iter().filter_map(|place| self.0.get(place..));
        rests.filter(|rest| !rest.is_empty()).map(|rest| Self(rest.to_owned())).collect()
    }
}

impl ToolLimits {
    /// How long a call may take that else takes `usual` at most.
    pub fn within(&self, usual: Duration) -> Duration {
        self.timeout.map_or(usual, |own| own.min(usual))
    }
}

impl ToolPolicy {
    /// Whether any tool has a time of its own to answer in.
    pub fn has_timeouts(&self) -> bool {
        self.limits.values().any(|limits| limits.timeout.is_some())
    }

    /// Why a tool may not be called, if so.
    pub fn denial(&self, name: &str) -> Option<Denial> {
        let has = |patterns: &[ToolPattern]| patterns.iter().any(|pattern| pattern.has(name));
        if self.limits_of(name).denied || has(&self.denied) {
            return Some(Denial::Denied);
        }
        let allowed = self.allowed.as_ref().is_none_or(|allowed| has(allowed));
        (!allowed).then_some(Denial::NotAllowed)
    }

    /// Whether there is any tool that it could refuse.
    pub fn denies_any(&self) -> bool {
        let is_one_denied = || self.limits.values().any(|limits| limits.denied);
        self.allowed.is_some() || !self.denied.is_empty() || is_one_denied()
    }

    pub fn limits_of(&self, name: &str) -> ToolLimits {
        self.limits.get(name).copied().unwrap_or_default()
    }
}

impl FromStr for ToolPattern {
    type Err = ToolPatternError;

    fn from_str(text: &str) -> Result<Self, ToolPatternError> {
        match text {
            "" => Err(ToolPatternError::Empty),
            text if text.chars().any(char::is_control) => {
                Err(ToolPatternError::Control(text.to_owned()))
            }
            text if text.len() > Self::LONGEST => Err(ToolPatternError::TooLong(text.to_owned())),
            text => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for ToolPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for ToolPattern {
    type Error = ToolPatternError;

    fn try_from(text: String) -> Result<Self, ToolPatternError> {
        text.parse()
    }
}

impl From<ToolPattern> for String {
    fn from(pattern: ToolPattern) -> Self {
        pattern.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns(texts: &[&str]) -> Vec<ToolPattern> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The plain definition, which tries every length of each `*`.
    fn plain(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|taken| plain(rest, &name[taken..])),
            Some((byte, rest)) => name.first() == Some(byte) && plain(rest, &name[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_star_stands_for_any_characters(pattern in "[ab*]{1,8}", name in "[ab]{0,10}") {
            let found = pattern.parse::<ToolPattern>().unwrap().has(&name);
            prop_assert_eq!(found, plain(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn what_is_left_behind_a_prefix_has_the_same_names(
            pattern in "[aé_*]{1,8}", prefix in "[aé_]{0,5}", name in "[aé_]{1,5}",
        ) {
            let pattern: ToolPattern = pattern.parse().unwrap();
            let left = pattern.after(&prefix);
            let found = left.iter().any(|left| left.has(&name));
            prop_assert_eq!(found, pattern.has(&format!("{prefix}{name}")));
        }
    }

    #[test]
    fn a_tools_own_time_shortens_the_usual_one_and_never_lengthens_it() {
        let [short, usual, long] = [1, 2, 3].map(Duration::from_secs);
        let within = |timeout| ToolLimits { timeout, ..ToolLimits::default() }.within(usual);
        assert_eq!([None, Some(short), Some(long)].map(within), [usual, short, usual]);
    }

    #[test]
    fn what_is_denied_is_denied_even_where_it_is_allowed() {
        let policy = |allowed: Option<&[&str]>, denied: &[&str]| ToolPolicy {
            allowed: allowed.map(patterns),
            denied: patterns(denied),
            ..ToolPolicy::default()
        };
        assert_eq!(policy(None, &[]).denial("any"), None);
        assert_eq!(policy(None, &["rm*"]).denial("rmdir"), Some(Denial::Denied));
        let reads = policy(Some(&["read_*", "list"]), &["read_secret"]);
        assert_eq!(reads.denial("read_file"), None);
        assert_eq!(reads.denial("read_secret"), Some(Denial::Denied));
        assert_eq!(reads.denial("write"), Some(Denial::NotAllowed));
        assert_eq!(policy(Some(&[]), &[]).denial("any"), Some(Denial::NotAllowed));
        assert_eq!(reads.denial("Read_file"), Some(Denial::NotAllowed), "names are as they are");
    }

    #[test]
    fn what_names_no_tool_is_refused() {
        let refused = |text: &str| text.parse::<ToolPattern>().unwrap_err();
        assert_eq!(refused(""), ToolPatternError::Empty);
        assert!(refused("a\u{1b}").to_string().contains("control character"));
        assert!(matches!(refused(&"x".repeat(257)), ToolPatternError::TooLong(_)));
    }
}
