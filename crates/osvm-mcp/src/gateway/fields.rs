//! Some fields of an object, and nothing of the rest, however large that is.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::envelope::same_but_for_case;

/// The values of these fields, as they are spelled. A field that occurs twice, or that differs from one of these by case
/// only, is refused: other parsers would find another object in that text than this one does.
pub(super) fn pick<'a, const N: usize>(
    object: &'a RawValue,
    names: [&'static str; N],
) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    let mut text = serde_json::Deserializer::from_str(object.get());
    let values = Wanted(names).deserialize(&mut text)?;
    text.end()?;
    Ok(values)
}

/// One field of an object that may be no such thing.
pub(super) fn one<'a>(object: Option<&'a RawValue>, name: &'static str) -> Option<&'a RawValue> {
    let [value] = pick(object?, [name]).ok()?;
    value
}

struct Wanted<const N: usize>([&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Wanted<N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Wanted<N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        while let Some(key) = map.next_key::<String>()? {
            match self.0.iter().position(|name| *name == key) {
                Some(wanted) if values[wanted].is_none() => {
                    values[wanted] = Some(map.next_value()?);
                }
                None if !self.0.iter().any(|name| same_but_for_case(name, &key)) => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => return Err(A::Error::custom(format!("{key} occurs twice"))),
            }
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_parser_would_find_elsewhere_is_refused() {
        let picked = |text: &str| {
            let object = RawValue::from_string(text.to_owned()).unwrap();
            pick(&object, ["a", "b"])
                .map(|values| values.map(|value| value.map(ToString::to_string)))
        };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(picked(r#"{"x":{"a":2},"b":1.0 ,"x":3}"#).unwrap(), [None, text("1.0")]);
        assert_eq!(picked(r#"{"\u0061":[ ]}"#).unwrap(), [text("[ ]"), None]);
        for twice in [r#"{"a":1,"a":1}"#, r#"{"a":1,"A":1}"#, r#"{"\u0061":1,"a":1}"#, "[1]", "7"] {
            assert!(picked(twice).is_err(), "{twice}");
        }
    }
}
