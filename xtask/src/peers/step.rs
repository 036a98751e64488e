//! What a peer was told, step by step.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) step: String,
    #[serde(flatten)]
    pub(super) seen: Seen,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Seen {
    Answer(Value),
    Failed(String),
}

impl Step {
    pub(super) fn answer(step: &str, answer: Value) -> Self {
        Self { step: step.to_owned(), seen: Seen::Answer(answer) }
    }

    pub(super) fn failed(step: &str, why: &str) -> Self {
        Self { step: step.to_owned(), seen: Seen::Failed(why.to_owned()) }
    }

    pub(super) fn is_answered(&self) -> bool {
        matches!(self.seen, Seen::Answer(_))
    }
}

/// One step for each line.
pub(super) fn of_lines(text: &str) -> Result<Vec<Step>> {
    let read = |line: &str| serde_json::from_str(line).with_context(|| format!("read {line}"));
    text.lines().map(read).collect()
}

/// Where names come more than once, with the number of each after the first.
pub(super) fn numbered(mut steps: Vec<Step>) -> Vec<Step> {
    let mut counts = BTreeMap::new();
    for step in &mut steps {
        let count = counts.entry(step.step.clone()).or_insert(0);
        *count += 1;
        if *count > 1 {
            step.step = format!("{} ({count})", step.step);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_a_step_with_its_answer_or_why_there_is_none() {
        let lines = "{\"step\":\"a\",\"answer\":{\"b\":1}}\n{\"step\":\"c\",\"failed\":\"late\"}\n";
        let steps = of_lines(lines).unwrap();
        assert_eq!(steps, [Step::answer("a", json!({ "b": 1 })), Step::failed("c", "late")]);
        assert!(steps[0].is_answered() && !steps[1].is_answered());
        assert!(of_lines("a warning").is_err());
    }

    #[test]
    fn names_that_come_again_are_numbered() {
        let steps = ["a", "b", "a"].map(|name| Step::failed(name, ""));
        let names: Vec<_> = numbered(steps.into()).into_iter().map(|step| step.step).collect();
        assert_eq!(names, ["a", "b", "a (2)"]);
    }
}
