//! The configuration fragment: what is asked of the kernel, and whether it came true.
//!
//! `make allnoconfig` drops without a word what it doesn't know or whose dependencies are not met.

use std::collections::HashMap;

use anyhow::{Result, bail};

/// Starts the comment above options that older sources don't have; they are asked for, and not
/// missed, up to the next comment.
const OPTIONAL: &str = "# Where the source knows it";

/// The fragment's lines, in their order.
pub(crate) struct Fragment {
    wishes: Vec<Wish>,
}

/// One option; `value` is what stands after `=`, and none means "is not set".
struct Wish {
    name: String,
    value: Option<String>,
    optional: bool,
}

impl Fragment {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut wishes: Vec<Wish> = Vec::new();
        let mut optional = false;
        for (index, line) in text.lines().enumerate() {
            if let Some((name, value)) = setting(line) {
                let (name, value) = (name.to_owned(), value.map(str::to_owned));
                if wishes.iter().any(|earlier| earlier.name == name) {
                    bail!("line {}: {name} is set twice", index + 1);
                }
                wishes.push(Wish { name, value, optional });
            } else if line.starts_with('#') || line.trim().is_empty() {
                optional = line.starts_with(OPTIONAL);
            } else {
                bail!("line {}: neither an option nor a comment: {line}", index + 1);
            }
        }
        Ok(Self { wishes })
    }

    /// The options that the finished configuration does not have as asked, each with what it has.
    pub(crate) fn lost(&self, config: &str) -> Vec<String> {
        let has: HashMap<_, _> =
            config.lines().filter_map(setting).filter_map(|(n, v)| Some((n, v?))).collect();
        self.wishes
            .iter()
            .filter(|wish| !wish.optional)
            .filter(|wish| has.get(wish.name.as_str()).copied() != wish.value.as_deref())
            .map(|wish| format!("{} ({})", wish, got(has.get(wish.name.as_str()))))
            .collect()
    }
}

impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value}", self.name),
            None => write!(f, "{} off", self.name),
        }
    }
}

fn got(value: Option<&&str>) -> String {
    value.map_or_else(|| "got: not set".to_owned(), |value| format!("got: {value}"))
}

/// `CONFIG_X=value` or `# CONFIG_X is not set`.
fn setting(line: &str) -> Option<(&str, Option<&str>)> {
    if let Some(off) = line.strip_prefix("# CONFIG_") {
        return Some((off.strip_suffix(" is not set")?, None));
    }
    let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
    Some((name, (value != "n").then_some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: &str = "# Why\nCONFIG_A=y\nCONFIG_N=32\n\n# CONFIG_M is not set\nCONFIG_Z=n\n\
        # Where the source knows it: new\nCONFIG_NEW=y\n# Else\nCONFIG_B=y\n";

    fn lost(config: &str) -> Vec<String> {
        Fragment::parse(ASKED).unwrap().lost(config)
    }

    #[test]
    fn a_configuration_with_everything_has_lost_nothing() {
        assert!(lost("CONFIG_A=y\nCONFIG_N=32\nCONFIG_B=y\nCONFIG_MORE=y\n").is_empty());
    }

    #[test]
    fn lost_changed_and_unwanted_options_are_named() {
        let lost = lost("CONFIG_N=64\nCONFIG_M=y\n# CONFIG_B is not set\n");
        let want = ["A=y (got: not set)", "N=32 (got: 64)", "M off (got: y)", "B=y (got: not set)"];
        assert_eq!(lost, want);
    }

    #[test]
    fn a_line_that_is_no_option_and_an_option_set_twice_are_refused() {
        assert!(Fragment::parse("CONFIG_A y\n").is_err());
        assert!(Fragment::parse("CONFIG_A=y\n# CONFIG_A is not set\n").is_err());
    }
}
