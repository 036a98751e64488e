//! Whether a schema is safe to be compiled, and what checking by it takes.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use thiserror::Error;

/// Steps of a schema whose references are written out.
const MOST_STEPS: u64 = 10_000;
/// How deep it is then; each level takes some of the stack.
const DEEPEST: usize = 64;
/// Patterns, and bytes of each.
const MOST_PATTERNS: u64 = 50;
const LONGEST_PATTERN: usize = 1000;

/// Drafts that are known to be understood; 2020-12 is that of a schema that names none.
const DRAFTS: [&str; 3] = ["/draft/2020-12/schema", "/draft/2019-09/schema", "/draft-07/schema"];

/// Keywords whose meaning depends on how a schema was reached, or on all that was checked before: checking by them can
/// take as many steps as there are ways through the schema.
const INTRICATE: [&str; 4] =
    ["$dynamicRef", "$recursiveRef", "unevaluatedProperties", "unevaluatedItems"];

/// Why a schema is not used. Completes "its schema ...".
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Unsafe {
    #[error("is too large with its references written out")]
    Large,
    #[error("is too deep with its references written out")]
    Deep,
    #[error("refers to itself")]
    Recursive,
    #[error("refers to something outside itself")]
    Outside,
    #[error("has a reference that leads nowhere")]
    Nowhere,
    #[error("has {0}, which is not supported")]
    Intricate(&'static str),
    #[error("has too many patterns, or too long ones")]
    Patterns,
    #[error("is of a draft that is not supported")]
    Draft,
}

/// What checking by a schema takes, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// For each value in the arguments.
    pub(super) steps: u64,
    /// Through all of their text.
    pub(super) passes: u64,
}

pub(super) fn cost(schema: &Value) -> Result<Cost, Unsafe> {
    if let Some(draft) = schema.get("$schema") {
        let draft = draft.as_str().unwrap_or_default().trim_end_matches('#');
        if !DRAFTS.iter().any(|known| draft.ends_with(known)) {
            return Err(Unsafe::Draft);
        }
    }
    let mut walk = Walk { root: schema, open: BTreeSet::new(), patterns: 0, seen: 0 };
    walk.value(schema, 0)?;
    Ok(Cost { steps: walk.seen, passes: walk.patterns })
}

struct Walk<'a> {
    root: &'a Value,
    /// References that are being followed.
    open: BTreeSet<&'a str>,
    patterns: u64,
    /// Values that were looked at so far, as often as they were: what is referred to twice counts twice.
    seen: u64,
}

impl<'a> Walk<'a> {
    fn value(&mut self, value: &'a Value, depth: usize) -> Result<(), Unsafe> {
        self.seen += 1;
        if self.seen > MOST_STEPS {
            return Err(Unsafe::Large);
        }
        if depth > DEEPEST {
            return Err(Unsafe::Deep);
        }
        match value {
            Value::Array(all) => {
                for value in all {
                    self.value(value, depth + 1)?;
                }
            }
            Value::Object(all) => {
                self.keywords(all, depth)?;
                if let Some(Value::String(reference)) = all.get("$ref") {
                    self.reference(reference, depth)?;
                }
                for value in all.values() {
                    self.value(value, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn keywords(&mut self, all: &'a Map<String, Value>, depth: usize) -> Result<(), Unsafe> {
        if let Some(keyword) = INTRICATE.into_iter().find(|keyword| all.contains_key(*keyword)) {
            return Err(Unsafe::Intricate(keyword));
        }
        // Within one that has an address of its own, references lead elsewhere.
        if depth > 0 && all.get("$id").is_some_and(Value::is_string) {
            return Err(Unsafe::Outside);
        }
        let named = all.get("patternProperties").and_then(Value::as_object);
        let named = named.into_iter().flat_map(Map::keys).map(String::as_str);
        for pattern in named.chain(all.get("pattern").and_then(Value::as_str)) {
            self.patterns += 1;
            if self.patterns > MOST_PATTERNS || pattern.len() > LONGEST_PATTERN {
                return Err(Unsafe::Patterns);
            }
        }
        Ok(())
    }

    fn reference(&mut self, reference: &'a str, depth: usize) -> Result<(), Unsafe> {
        let Some(pointer) = reference.strip_prefix('#') else { return Err(Unsafe::Outside) };
        if pointer.contains('%') || !(pointer.is_empty() || pointer.starts_with('/')) {
            return Err(Unsafe::Outside);
        }
        if !self.open.insert(pointer) {
            return Err(Unsafe::Recursive);
        }
        let target = self.root.pointer(pointer).ok_or(Unsafe::Nowhere)?;
        self.value(target, depth + 1)?;
        self.open.remove(pointer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn steps(schema: &Value) -> Result<u64, Unsafe> {
        cost(schema).map(|cost| cost.steps)
    }

    #[test]
    fn usual_schemas_are_safe() {
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#", "$id": "https://example.com/a",
            "type": "object", "properties": {
                "$ref": { "type": "string" }, "id": { "type": "string", "pattern": "^a" },
                "x": { "$ref": "#/definitions/x" }, "y": { "$ref": "#/definitions/x" }
            },
            "definitions": { "x": { "enum": [1, 2] } }
        });
        let count = steps(&schema).unwrap();
        assert!((20..60).contains(&count), "{count}");
    }

    #[test]
    fn nothing_outside_is_reached_for() {
        for reference in [
            "http://169.254.169.254/x",
            "file:///etc/passwd",
            "other.json",
            "//host/x",
            "#anchor",
            "#/%24defs/x",
            "",
        ] {
            let schema = json!({ "$ref": reference, "$defs": { "x": {} } });
            assert_eq!(steps(&schema), Err(Unsafe::Outside), "{reference}");
        }
        let inner = json!({ "properties": { "a": { "$id": "http://x/", "$ref": "#/b" } } });
        assert_eq!(steps(&inner), Err(Unsafe::Outside));
        assert_eq!(steps(&json!({ "$schema": "http://evil/" })), Err(Unsafe::Draft));
        assert_eq!(steps(&json!({ "$ref": "#/none" })), Err(Unsafe::Nowhere));
    }

    #[test]
    fn what_grows_without_end_is_refused() {
        assert_eq!(steps(&json!({ "items": { "$ref": "#" } })), Err(Unsafe::Recursive));
        let around = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "not": { "$ref": "#/$defs/a" } } } });
        assert_eq!(steps(&around), Err(Unsafe::Recursive));
        // Each of them twice the next.
        let twice = |n: u32| json!({ "allOf": [{ "$ref": format!("#/$defs/{}", n + 1) }, { "$ref": format!("#/$defs/{}", n + 1) }] });
        let mut defs: Map<String, Value> = (0..20).map(|n| (n.to_string(), twice(n))).collect();
        defs.insert("20".to_owned(), json!({}));
        let doubling = json!({ "$ref": "#/$defs/0", "$defs": defs });
        assert_eq!(steps(&doubling), Err(Unsafe::Large));
        let next = |n: u32| json!({ "$ref": format!("#/$defs/{}", n + 1) });
        let mut defs: Map<String, Value> = (0..5000).map(|n| (n.to_string(), next(n))).collect();
        defs.insert("5000".to_owned(), json!({}));
        assert_eq!(steps(&json!({ "$ref": "#/$defs/0", "$defs": defs })), Err(Unsafe::Deep));
        let wide = json!({ "enum": vec![0; 20_000] });
        assert_eq!(steps(&wide), Err(Unsafe::Large));
        let intricate = json!({ "properties": { "a": { "unevaluatedProperties": false } } });
        assert_eq!(steps(&intricate), Err(Unsafe::Intricate("unevaluatedProperties")));
        let patterns: Map<String, Value> = (0..60).map(|n| (format!("a{n}"), json!({}))).collect();
        assert_eq!(steps(&json!({ "patternProperties": patterns })), Err(Unsafe::Patterns));
    }
}
