//! A request's id as clients compare it, whatever its spelling: some take `1`, `1.0` and `"1"` for the same. A server
//! that spells an id otherwise than it was asked must not get past the guard by that.

use serde_json::value::RawValue;

/// Longest id that is remembered, in bytes.
const LONGEST: usize = 1 << 10;

/// Up to here every whole number has a floating-point number of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Id {
    Number(String),
    Text(String),
}

impl Id {
    /// `None` for what is no id, or too long to be remembered.
    pub(super) fn of(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        if text.len() > LONGEST {
            return None;
        }
        match text.as_bytes()[0] {
            b'"' => serde_json::from_str(text).ok().map(Self::Text),
            b'-' | b'0'..=b'9' => Some(Self::Number(normal(text))),
            _ => None,
        }
    }

    /// What a lenient client would take for the same.
    pub(super) fn alike(&self) -> Option<Self> {
        match self {
            Self::Number(text) => Some(Self::Text(text.clone())),
            Self::Text(text) => as_javascript(text).map(Self::Number),
        }
    }
}

fn normal(number: &str) -> String {
    match number.parse::<f64>() {
        // As JavaScript has it, to which large numbers are one where they are no longer exact.
        Ok(value) => format!("{}", value + 0.0),
        Err(_) => number.to_owned(),
    }
}

fn whole(value: f64) -> Option<String> {
    // Minus zero is zero.
    (value.fract() == 0.0 && value.abs() < EXACT).then(|| format!("{}", value + 0.0))
}

/// As its `Number(text)` does.
fn as_javascript(text: &str) -> Option<String> {
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    let digits = |base| u64::from_str_radix(text.get(2..)?, base).ok().map(|n| n.to_string());
    match text.as_bytes() {
        [] => Some("0".to_owned()),
        [b'0', b'x' | b'X', ..] => digits(16),
        [b'0', b'o' | b'O', ..] => digits(8),
        [b'0', b'b' | b'B', ..] => digits(2),
        _ => text.parse::<f64>().ok().and_then(whole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        Id::of(&RawValue::from_string(text.to_owned()).unwrap()).unwrap()
    }

    #[test]
    fn spellings_of_one_id_are_one() {
        for text in ["1", "1.0", "1e0", "10e-1"] {
            assert_eq!(id(text), id("1"), "{text}");
        }
        assert_eq!(id(r#""\u0061""#), id(r#""a""#));
        assert_eq!(id("-0"), id("0"));
        assert_eq!(id("1.50"), id("1.5"));
        assert_eq!(id("9007199254740992.0"), id("9007199254740992"));
        assert_ne!(id("9007199254740991"), id("9007199254740992"));
        assert_ne!(id("1.5"), id("1"));
    }

    #[test]
    fn texts_that_some_take_for_a_number_are_like_it() {
        for text in [r#""1""#, r#"" 1 ""#, r#""0x1""#, r#""1.0""#, r#""0b1""#, "\"\u{feff}1\""] {
            assert_eq!(id(text).alike(), Some(id("1")), "{text}");
        }
        assert_eq!(id(r#""""#).alike(), Some(id("0")));
        assert_eq!(id("1").alike(), Some(id(r#""1""#)));
        for text in [r#""one""#, r#""inf""#, r#""0xé""#] {
            assert_eq!(id(text).alike(), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_id_or_a_long_one_is_none() {
        let of = |text: String| Id::of(&RawValue::from_string(text).unwrap());
        assert_eq!(of("null".to_owned()), None);
        assert_eq!(of(format!("\"{}\"", "x".repeat(LONGEST))), None);
    }
}
