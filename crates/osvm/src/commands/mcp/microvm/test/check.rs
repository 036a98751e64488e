//! One attempt, as it is reported.

use serde::Serialize;

/// An attempt, what came of it, and whether that is as it must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) group: &'static str,
    pub(super) name: &'static str,
    pub(super) passed: bool,
    pub(super) evidence: String,
}

/// What was seen of an attempt, or why it could not be made.
pub(super) type Seen<T> = Result<T, String>;

/// Checks of one group.
pub(super) struct Group(pub(super) &'static str);

impl Group {
    pub(super) fn check(
        &self,
        name: &'static str,
        passed: bool,
        evidence: impl Into<String>,
    ) -> Check {
        Check { group: self.0, name, passed, evidence: evidence.into() }
    }

    /// An attempt that could not be made proves nothing, so it fails.
    pub(super) fn judge<T>(
        &self,
        name: &'static str,
        seen: &Seen<T>,
        judge: impl FnOnce(&T) -> (bool, String),
    ) -> Check {
        match seen {
            Ok(seen) => {
                let (passed, evidence) = judge(seen);
                self.check(name, passed, evidence)
            }
            Err(why) => self.check(name, false, format!("it could not be tried: {why}")),
        }
    }
}

/// As much of a text as fits a line.
pub(super) fn short(text: &str) -> String {
    const FITS: usize = 240;
    match text.char_indices().nth(FITS) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_that_could_not_be_made_fails() {
        let seen: Seen<u8> = Err("the VM was gone".to_owned());
        let check = Group("g").judge("n", &seen, |_| (true, String::new()));
        assert!(!check.passed);
        assert_eq!(check.evidence, "it could not be tried: the VM was gone");
    }

    #[test]
    fn long_evidence_is_cut_between_characters() {
        let text = "é".repeat(300);
        assert_eq!(short(&text).chars().count(), 243);
    }
}
