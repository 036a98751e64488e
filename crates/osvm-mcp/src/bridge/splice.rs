//! Changes to a JSON text that leave the rest of it as it is spelled.

use std::fmt;

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::envelope;

/// The values of some fields of an object. Nothing where the text is no object, and where one of those fields occurs
/// twice: others might read another one of the two.
pub(crate) fn fields<'a, const N: usize>(
    object: &'a str,
    names: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    let mut found = [None; N];
    each_field(object, &mut |name, value| {
        let Some(at) = names.iter().position(|wanted| *wanted == name) else { return true };
        found[at].replace(value).is_none()
    })?;
    Some(found)
}

/// One of them.
pub(crate) fn field<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let [value] = fields(object, [name])?;
    value.map(RawValue::get)
}

/// Calls `visit` with each field of an object in turn, until it returns false. Whether all were visited.
pub(crate) fn each_field<'a>(
    object: &'a str,
    visit: &mut dyn FnMut(&str, &'a RawValue) -> bool,
) -> Option<()> {
    let mut reader = serde_json::Deserializer::from_str(object);
    reader.deserialize_map(Fields(visit)).ok()?;
    reader.end().ok()
}

struct Fields<'v, 'a>(&'v mut dyn FnMut(&str, &'a RawValue) -> bool);

impl<'a> Visitor<'a> for Fields<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if !(self.0)(&name, map.next_value()?) {
                return Err(A::Error::custom("enough was seen"));
            }
        }
        Ok(())
    }
}

/// What takes the place of a part of a text.
pub(crate) struct Edit<'a> {
    /// Lies within the text.
    pub(crate) part: &'a str,
    pub(crate) with: String,
}

/// The text with its edits, no two of which touch the same part.
pub(crate) fn edited<'a>(text: &str, edits: impl IntoIterator<Item = Edit<'a>>) -> String {
    let edits: Vec<_> = edits.into_iter().collect();
    envelope::with(text, edits.iter().map(|edit| (edit.part, edit.with.as_str())))
}

/// What sets some fields of an object: where they are, those that it has, and else in front. Nothing where the text is
/// no object, or has one of them twice.
pub(crate) fn set<'a>(object: &'a str, values: &[(&str, &str)]) -> Option<Vec<Edit<'a>>> {
    let mut found = vec![None; values.len()];
    each_field(object, &mut |name, value| {
        let Some(at) = values.iter().position(|(wanted, _)| *wanted == name) else { return true };
        found[at].replace(value).is_none()
    })?;
    let present = found.iter().zip(values).filter_map(|(found, (_, with))| {
        found.map(|value: &RawValue| Edit { part: value.get(), with: (*with).to_owned() })
    });
    let mut edits: Vec<_> = present.collect();
    let absent = found.iter().zip(values).filter(|(found, _)| found.is_none());
    edits.extend(in_front(object, absent.map(|(_, value)| *value)));
    Some(edits)
}

/// What brings those fields to the front of an object that it does not have. Nothing where there is none to bring.
pub(crate) fn missing<'a, const N: usize>(
    object: &'a str,
    values: [(&str, &str); N],
) -> Option<Edit<'a>> {
    let mut has = [false; N];
    each_field(object, &mut |name, _| {
        if let Some(at) = values.iter().position(|(wanted, _)| *wanted == name) {
            has[at] = true;
        }
        true
    })?;
    in_front(object, has.iter().zip(values).filter(|(has, _)| !**has).map(|(_, value)| value))
}

/// The object without those fields; what is left is spelled as it was, but for the space between.
pub(crate) fn without(object: &str, names: &[&str]) -> Option<String> {
    let mut left = Vec::new();
    each_field(object, &mut |name, value| {
        if !names.contains(&name) {
            left.push(format!("{}:{}", quoted(name), value.get()));
        }
        true
    })?;
    Some(format!("{{{}}}", left.join(",")))
}

/// The edit that brings fields to the front of an object.
fn in_front<'a, 'v>(
    object: &'a str,
    values: impl Iterator<Item = (&'v str, &'v str)>,
) -> Option<Edit<'a>> {
    let values: Vec<_> = values.map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
    let inside = object.find('{')? + 1;
    let is_empty = object[inside..].trim_start().starts_with('}');
    let comma = if is_empty { "" } else { "," };
    let with = values.join(",") + comma;
    (!values.is_empty()).then(|| Edit { part: &object[inside..inside], with })
}

/// As a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("text is a JSON string")
}

/// The text of a JSON string.
pub(crate) fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Whether an object has a field that is neither null nor false.
pub(crate) fn states(object: &str, name: &str) -> bool {
    field(object, name).is_some_and(|value| value != "null" && value != "false")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_stands_in_front_or_where_it_was_and_the_rest_as_it_is_spelled() {
        let set =
            |object| set(object, &[("a", "1"), ("b", "[2]")]).map(|edits| edited(object, edits));
        assert_eq!(set("{}").unwrap(), r#"{"a":1,"b":[2]}"#);
        assert_eq!(set(r#" { "x":1.0e5} "#).unwrap(), r#" {"a":1,"b":[2], "x":1.0e5} "#);
        assert_eq!(set(r#"{"x":"{","b" : null}"#).unwrap(), r#"{"a":1,"x":"{","b" : [2]}"#);
        assert_eq!(set(r#"{"\u0061":0}"#).unwrap(), r#"{"b":[2],"\u0061":1}"#);
        for none in ["[]", "1", "", r#"{"a":1,"a":2}"#, "{} {}", r#"{"a"}"#] {
            assert_eq!(set(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_taken_out_leaves_the_rest() {
        let without = |object| without(object, &["a", "b"]);
        assert_eq!(
            without(r#"{ "a":1, "x" : 1.0e5,"b":[], "x":2}"#).unwrap(),
            r#"{"x":1.0e5,"x":2}"#
        );
        assert_eq!(without(r#"{"a":1,"a":2}"#).unwrap(), "{}");
        assert_eq!(without("[]"), None);
    }

    #[test]
    fn what_is_missing_is_added_and_leaves_what_is_there() {
        let add =
            |object| missing(object, [("a", "1"), ("b", "2")]).map(|edit| edited(object, [edit]));
        assert_eq!(add(r#"{"a":0,"a":9}"#).unwrap(), r#"{"b":2,"a":0,"a":9}"#);
        assert_eq!(add(r#"{"b":0,"a":9}"#), None);
        assert_eq!(add("[1]"), None);
    }
}
