//! The schemas of tools' arguments, as a server lists them, and whether arguments fit.
//!
//! A schema is a stranger's program: it is compiled only if [`bounds`] finds that it is small, that it reaches for
//! nothing outside itself, and that checking takes no more steps than its size times that of the arguments. Others are
//! not used, which is said once in the log.

mod bounds;

use std::collections::BTreeMap;
use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::received::printable;
use bounds::{Cost, Unsafe};

/// Tools of one server whose schemas are kept.
const MOST_TOOLS: usize = 2000;
/// Longest schema, in bytes, and all that are kept of one server.
const LONGEST: usize = 64 << 10;
const MOST_BYTES: usize = 8 << 20;
/// Compiled ones that are kept; they may be much larger than their text.
const MOST_COMPILED: usize = 64;
/// Of a pattern, compiled, in bytes.
const PATTERN_BYTES: usize = 64 << 10;
/// Steps that checking one call may take, about: a tenth of a second.
const MOST_STEPS: u64 = 10_000_000;
/// Text that patterns may be looked for in, once for each of them, in bytes.
const MOST_TEXT: u64 = 8 << 20;
/// Longest name of a tool, in bytes.
const LONGEST_NAME: usize = 256;
/// Steps after which it is no longer told what does not fit, which takes more memory than to find out that something
/// does not.
const MOST_TOLD: u64 = 100_000;
/// Longest text about what does not fit, in characters.
const LONGEST_TOLD: usize = 300;

/// What is known of one server's tools.
#[derive(Default)]
pub(crate) struct Schemas {
    texts: BTreeMap<String, Box<str>>,
    bytes: usize,
    /// `None` for those that are not used.
    compiled: BTreeMap<String, Option<Compiled>>,
}

struct Compiled {
    validator: Validator,
    cost: Cost,
}

impl Schemas {
    /// Notes a tool of a list; a later definition takes the place of an earlier one.
    pub(crate) fn learn(&mut self, tool: &str, schema: Option<&RawValue>) {
        let text = schema.map_or("", RawValue::get);
        if tool.len() > LONGEST_NAME {
            tracing::warn!("arguments of a tool are not checked: its name is too long");
            return;
        }
        if self.texts.get(tool).map(|known| &**known) == Some(text) {
            return;
        }
        self.compiled.remove(tool);
        if let Some(old) = self.texts.remove(tool) {
            self.bytes -= tool.len() + old.len();
        }
        let fits = text.len() <= LONGEST && self.bytes + tool.len() + text.len() <= MOST_BYTES;
        if !fits || self.texts.len() >= MOST_TOOLS {
            tracing::warn!(tool = %printable(tool), "arguments are not checked: too much to remember");
            return;
        }
        self.bytes += tool.len() + text.len();
        self.texts.insert(tool.to_owned(), text.into());
    }

    /// How arguments break their tool's schema, if it is known and can be used, and they do.
    pub(crate) fn violation(&mut self, tool: &str, arguments: Option<&RawValue>) -> Option<String> {
        let text = self.texts.get(tool).filter(|text| !text.is_empty())?;
        if self.compiled.len() >= MOST_COMPILED && !self.compiled.contains_key(tool) {
            self.compiled.clear();
        }
        let compile = || {
            let told = |error: &NotUsed| {
                tracing::warn!(tool = %printable(tool), "arguments are not checked: its schema {error}");
            };
            compile(text).inspect_err(told).ok()
        };
        let compiled = self.compiled.entry(tool.to_owned()).or_insert_with(compile);
        compiled.as_ref()?.violation(arguments.map_or("{}", RawValue::get))
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.texts.keys()).finish()
    }
}

/// Why a schema is not used. Completes "its schema ...".
#[derive(Debug, thiserror::Error)]
enum NotUsed {
    #[error("can't be read: {0}")]
    Json(serde_json::Error),
    #[error("{0}")]
    Unsafe(#[from] Unsafe),
    #[error("can't be compiled: {0}")]
    Compile(String),
}

fn compile(text: &str) -> Result<Compiled, NotUsed> {
    let schema: Value = serde_json::from_str(text).map_err(NotUsed::Json)?;
    let cost = bounds::cost(&schema)?;
    let patterns =
        PatternOptions::regex().size_limit(PATTERN_BYTES).dfa_size_limit(4 * PATTERN_BYTES);
    let options = jsonschema::options()
        .offline()
        .with_pattern_options(patterns)
        .should_validate_formats(false);
    let validator = options.build(&schema).map_err(|error| NotUsed::Compile(told(&error)))?;
    Ok(Compiled { validator, cost })
}

impl Compiled {
    fn violation(&self, text: &str) -> Option<String> {
        let Cost { steps, passes } = self.cost;
        let is_long = passes.saturating_mul(text.len() as u64) > MOST_TEXT;
        let steps = values(text).saturating_mul(steps);
        if is_long || steps > MOST_STEPS {
            return Some("they are too many to be checked".to_owned());
        }
        let arguments: Value = match serde_json::from_str(text) {
            Ok(arguments) => arguments,
            Err(error) => return Some(format!("they can't be checked: {error}")),
        };
        if self.validator.is_valid(&arguments) {
            return None;
        }
        if steps > MOST_TOLD {
            return Some("they are too many to tell what of them does not".to_owned());
        }
        let error = self.validator.validate(&arguments).err()?;
        let place = error.instance_path().to_string();
        let place = if place.is_empty() { "/".to_owned() } else { place };
        let rule = error.schema_path().to_string();
        Some(format!("at {}: {} (rule {})", short(&place), told(&error.masked()), short(&rule)))
    }
}

/// How many values a text holds, at most.
fn values(json: &str) -> u64 {
    let (mut count, mut in_text, mut is_escaped) = (1, false, false);
    for byte in json.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b',' | b'[' | b'{' if !in_text => count += 1,
            _ => {}
        }
    }
    count
}

fn told(error: &dyn fmt::Display) -> String {
    short(&error.to_string())
}

/// Harmless and short.
fn short(text: &str) -> String {
    printable(text).chars().take(LONGEST_TOLD).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn raw(value: &Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).unwrap()
    }

    fn check(schema: &Value, arguments: &Value) -> Option<String> {
        let mut schemas = Schemas::default();
        schemas.learn("t", Some(&raw(schema)));
        schemas.violation("t", Some(&raw(arguments)))
    }

    fn is_used(schema: &Value) -> bool {
        compile(&schema.to_string()).is_ok()
    }

    #[test]
    fn what_does_not_fit_is_told_by_its_place_and_rule_and_not_by_its_value() {
        let schema = json!({
            "type": "object", "required": ["a"], "additionalProperties": false,
            "properties": { "a": { "type": "array", "items": { "$ref": "#/$defs/n" } } },
            "$defs": { "n": { "type": "integer", "minimum": 3 } }
        });
        assert_eq!(check(&schema, &json!({ "a": [3, 4] })), None);
        let why = check(&schema, &json!({ "a": [3, "secret"] })).unwrap();
        assert!(why.starts_with("at /a/1: value is not of type \"integer\" (rule "), "{why}");
        assert!(why.ends_with("/type)") && !why.contains("secret"), "{why}");
        assert!(check(&schema, &json!({})).unwrap().starts_with("at /: \"a\" is a required"));
        assert!(
            check(&schema, &json!({ "a": [], "b": 1 })).unwrap().contains("additionalProperties")
        );
    }

    #[test]
    fn tools_without_a_schema_and_unknown_ones_are_not_checked() {
        let mut schemas = Schemas::default();
        schemas.learn("t", None);
        assert_eq!(schemas.violation("t", None), None);
        assert_eq!(schemas.violation("u", None), None);
        schemas.learn("t", Some(&raw(&json!({ "required": ["x"] }))));
        assert!(schemas.violation("t", None).is_some(), "no arguments are none");
        schemas.learn("t", Some(&raw(&json!({}))));
        assert_eq!(schemas.violation("t", None), None, "the last definition counts");
    }

    #[test]
    fn patterns_take_linear_time_or_are_not_used() {
        let schema = json!({ "properties": { "a": { "pattern": "^(a+)+$" } } });
        let evil = "a".repeat(100_000) + "!";
        assert!(check(&schema, &json!({ "a": evil })).unwrap().starts_with("at /a: "));
        for pattern in ["(a)\\1", "(?=a)", "(((a{100}){100}){100}){100}"] {
            assert!(!is_used(&json!({ "pattern": pattern })), "{pattern}");
        }
    }

    #[test]
    fn arguments_that_would_take_too_long_or_are_too_deep_do_not_fit() {
        let all: Vec<_> = (0..300).map(|n| json!({ "items": { "minimum": n } })).collect();
        let schema = json!({ "properties": { "a": { "allOf": all } } });
        assert_eq!(check(&schema, &json!({ "a": [300] })), None);
        let many = json!({ "a": vec![300; 20_000] });
        assert_eq!(check(&schema, &many).unwrap(), "they are too many to be checked");
        let mut schemas = Schemas::default();
        schemas.learn("t", Some(&raw(&json!({}))));
        let deep = RawValue::from_string("[".repeat(5000) + &"]".repeat(5000)).unwrap();
        assert!(schemas.violation("t", Some(&deep)).unwrap().contains("recursion limit"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut schemas = Schemas::default();
        let long = raw(&json!({ "description": "x".repeat(LONGEST - 50) }));
        for tool in 0..MOST_TOOLS + 10 {
            schemas.learn(&tool.to_string(), Some(&long));
        }
        assert!(schemas.bytes <= MOST_BYTES && schemas.bytes > MOST_BYTES - LONGEST);
        for tool in 0..MOST_TOOLS + 10 {
            schemas.learn(&tool.to_string(), Some(&raw(&json!({}))));
            schemas.violation(&tool.to_string(), None);
        }
        assert_eq!(schemas.texts.len(), MOST_TOOLS);
        assert!(schemas.compiled.len() <= MOST_COMPILED);
        let too_long = raw(&json!({ "description": "x".repeat(LONGEST) }));
        schemas.learn("1", Some(&too_long));
        assert!(!schemas.texts.contains_key("1"), "nor is the old one used any more");
    }
}
