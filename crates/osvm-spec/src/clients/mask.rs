//! A client's file as it may be shown: what looks like a secret is hidden.

use jsonc_parser::ast::{Comment, Value};
use jsonc_parser::common::{Range, Ranged};
use jsonc_parser::{CollectOptions, CommentCollectionStrategy, parse_to_ast};

use super::document::{STRICT, name};
use super::splice::{Splice, spliced};
use super::{ClientFile, refers};
use crate::secrets::secret_words;
use crate::{holds_secret, looks_secret, tells_secret};

const HIDDEN: &str = "\"(hidden)\"";

impl ClientFile<'_> {
    /// The text to be shown. It has the lines of the file, but for comments of several.
    pub fn masked(&self) -> String {
        let mut hidden = Vec::new();
        if let Some(root) = self.root.clone() {
            mask("", &Value::Object(root), &mut hidden);
        }
        let mut splices: Vec<_> = hidden
            .into_iter()
            .map(|range| Splice::replace(range.start..range.end, HIDDEN))
            .collect();
        splices.extend(self.comments());
        self.whole(&spliced(self.text, splices))
    }

    /// Comments that speak of secrets.
    fn comments(&self) -> Vec<Splice> {
        let comments = CommentCollectionStrategy::Separate;
        let options = CollectOptions { comments, tokens: false };
        let parsed = parse_to_ast(self.text, &options, &STRICT).ok();
        let all = parsed.and_then(|parsed| parsed.comments).unwrap_or_default();
        let mut speaking: Vec<_> = all
            .values()
            .flat_map(|list| list.iter())
            .filter(|comment| speaks(comment.text()))
            .map(|comment| (comment.start(), comment.end(), matches!(comment, Comment::Line(_))))
            .collect();
        speaking.sort_unstable();
        speaking.dedup();
        let hide = |(start, end, is_line): (usize, usize, bool)| {
            let text = if is_line { "// (hidden)" } else { "/* (hidden) */" };
            Splice::replace(start..end, text)
        };
        speaking.into_iter().map(hide).collect()
    }
}

fn speaks(comment: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || "_-".contains(c);
    tells_secret(comment) || comment.split(|c| !is_part(c)).any(looks_secret)
}

fn mask(key: &str, value: &Value<'_>, hidden: &mut Vec<Range>) {
    let mut hide = |text: &str| {
        if holds_secret(key, text) && !refers(text) {
            hidden.push(value.range());
        }
    };
    match value {
        Value::StringLit(text) => hide(&text.value),
        Value::NumberLit(number) => hide(number.value),
        Value::Object(object) => {
            object.properties.iter().for_each(|inner| mask(name(inner), &inner.value, hidden));
        }
        Value::Array(array) => {
            let word = |value: &Value<'_>| {
                value.as_string_lit().map(|text| text.value.to_string()).unwrap_or_default()
            };
            let words: Vec<_> = array.elements.iter().map(word).collect();
            let secret = secret_words(&words);
            for (index, inner) in array.elements.iter().enumerate() {
                match secret.contains(&index) {
                    true => hidden.push(inner.range()),
                    false => mask(key, inner, hidden),
                }
            }
        }
        Value::BooleanLit(_) | Value::NullKeyword(_) => {}
    }
}
