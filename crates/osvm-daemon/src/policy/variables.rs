//! Variables that a server misses. Which ones a process reads can't be seen; which it speaks of can.

use std::collections::BTreeSet;

use osvm_spec::looks_secret;

use super::VariableNeed;

/// Longest name that is taken for a variable's, and most of them.
const LONGEST: usize = 64;
const MOST: usize = 64;

/// What looks like a variable and is an error's name.
const ERRORS: [&str; 9] = [
    "ERR_",
    "UND_ERR_",
    "SSL_",
    "CERT_",
    "UNABLE_TO_",
    "DEPTH_ZERO_",
    "SELF_SIGNED_",
    "MODULE_NOT_",
    "JSON_RPC",
];

/// Names that look like variables', gathered from the pieces of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mentions {
    names: BTreeSet<String>,
    /// The word that the last piece ended with: the next one may go on with it.
    unfinished: String,
}

/// The names in a text.
pub fn mentioned(text: &str) -> Mentions {
    let mut mentions = Mentions::default();
    mentions.hear(text.as_bytes());
    mentions.hear(b"\n");
    mentions
}

impl Mentions {
    /// The next piece.
    pub fn hear(&mut self, piece: &[u8]) {
        for byte in piece {
            if byte.is_ascii_alphanumeric() || *byte == b'_' {
                // Longer words are no names, whatever follows.
                if self.unfinished.len() <= LONGEST {
                    self.unfinished.push(char::from(*byte));
                }
            } else {
                let word = std::mem::take(&mut self.unfinished);
                self.add(word);
            }
        }
    }

    fn add(&mut self, word: String) {
        if self.names.len() < MOST && is_variable(&word) {
            self.names.insert(word);
        }
    }
}

/// Upper case in parts: `GITHUB_TOKEN`. Single words are too often no variables.
fn is_variable(word: &str) -> bool {
    let is_upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    word.len() <= LONGEST
        && word.contains('_')
        && !word.ends_with('_')
        && word.bytes().next().is_some_and(|first| first.is_ascii_uppercase())
        && word.bytes().all(is_upper)
        && !ERRORS.iter().any(|error| word.starts_with(error))
}

/// Those that are not set.
pub(super) fn needs(set: &BTreeSet<&str>, stderr: &str, answers: &Mentions) -> Vec<VariableNeed> {
    let stderr = mentioned(stderr);
    let names: BTreeSet<_> = stderr.names.union(&answers.names).collect();
    let missing = names.into_iter().filter(|name| !set.contains(name.as_str()));
    missing
        .map(|name| VariableNeed {
            name: name.clone(),
            secret: looks_secret(name),
            reason: match stderr.names.contains(name) {
                true => "mentioned on standard error".to_owned(),
                false => "mentioned in an answer".to_owned(),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        mentioned(text).names.into_iter().collect()
    }

    #[test]
    fn what_looks_like_a_variable_is_found_and_the_names_of_errors_are_not() {
        let text = "fatal: GITHUB_TOKEN is not set ($API_URL2, \"LOG_DIR\"); ERR_MODULE_NOT_FOUND, \
                    ECONNREFUSED, x_Y_Z, A_, _A, Mixed_CASE, HTTP";
        assert_eq!(names(text), ["API_URL2", "GITHUB_TOKEN", "LOG_DIR"]);
        assert_eq!(names(&format!("{}_A", "A".repeat(100))), Vec::<String>::new());
        let flood: String = (0..1000).map(|n| format!("A_{n} ")).collect();
        assert_eq!(names(&flood).len(), MOST);
    }

    #[test]
    fn a_name_may_come_in_pieces() {
        let mut mentions = Mentions::default();
        for piece in ["needs GITHUB", "_TO", "KEN", "\nX"] {
            mentions.hear(piece.as_bytes());
        }
        assert_eq!(mentions, Mentions { unfinished: "X".into(), ..mentioned("GITHUB_TOKEN") });
    }

    #[test]
    fn those_that_are_set_are_not_missing() {
        let set = BTreeSet::from(["LOG_DIR"]);
        let needs = needs(&set, "LOG_DIR GITHUB_TOKEN", &mentioned("API_URL GITHUB_TOKEN"));
        let shown: Vec<_> = needs.iter().map(|need| (need.name.as_str(), need.secret)).collect();
        assert_eq!(shown, [("API_URL", false), ("GITHUB_TOKEN", true)]);
        assert_eq!(needs[1].reason, "mentioned on standard error");
    }
}
