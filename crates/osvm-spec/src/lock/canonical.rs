//! One text for each JSON value: RFC 8785 (JCS), but for numbers that it would round.
//!
//! RFC 8785 takes every number for a double, so two that differ beyond 2^53 would be the same to it. Here
//! the digits stay as they are, laid out as the RFC lays out a double: a number that is the shortest text of a double
//! gets the RFC's own text, and two numbers have one text only if they are equal. Duplicate keys, which
//! the RFC forbids and readers take differently, are an error.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

/// Why a text has no canonical form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CanonicalError {
    #[error("it is not JSON: {0}")]
    Json(String),
    #[error("it has the key {0:?} twice")]
    Duplicate(String),
    #[error("it is nested more than {MAX_DEPTH} deep")]
    Deep,
    #[error("its number {0} is out of every range")]
    Number(String),
}

/// Each level is read once more than the one above it.
const MAX_DEPTH: usize = 64;

/// The canonical form of a JSON text.
pub fn canonical(json: &str) -> Result<String, CanonicalError> {
    let value: &RawValue = read(json)?;
    let mut out = String::with_capacity(json.len());
    write(value, 0, &mut out)?;
    Ok(out)
}

/// The members of an object, in the order of the canonical form.
pub(super) fn members(json: &str) -> Result<Vec<(String, &RawValue)>, CanonicalError> {
    let Members(mut members) = read(json)?;
    members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
    match members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        Some(pair) => Err(CanonicalError::Duplicate(pair[0].0.clone())),
        None => Ok(members),
    }
}

fn read<'j, T: Deserialize<'j>>(json: &'j str) -> Result<T, CanonicalError> {
    serde_json::from_str(json).map_err(|error| CanonicalError::Json(error.to_string()))
}

fn write(value: &RawValue, depth: usize, out: &mut String) -> Result<(), CanonicalError> {
    if depth > MAX_DEPTH {
        return Err(CanonicalError::Deep);
    }
    let text = value.get();
    let written = match text.as_bytes().first() {
        Some(b'{') => return write_object(text, depth, out),
        Some(b'[') => return write_array(text, depth, out),
        Some(b'"') => string(&read::<String>(text)?),
        Some(b'-' | b'0'..=b'9') => {
            number(text).ok_or_else(|| CanonicalError::Number(text.to_owned()))?
        }
        _ => text.to_owned(),
    };
    out.push_str(&written);
    Ok(())
}

fn write_object(text: &str, depth: usize, out: &mut String) -> Result<(), CanonicalError> {
    let mut before = '{';
    for (key, value) in members(text)? {
        out.push(before);
        out.push_str(&string(&key));
        out.push(':');
        write(value, depth + 1, out)?;
        before = ',';
    }
    out.push_str(if before == '{' { "{}" } else { "}" });
    Ok(())
}

fn write_array(text: &str, depth: usize, out: &mut String) -> Result<(), CanonicalError> {
    let mut before = '[';
    for value in read::<Vec<&RawValue>>(text)? {
        out.push(before);
        write(value, depth + 1, out)?;
        before = ',';
    }
    out.push_str(if before == '[' { "[]" } else { "]" });
    Ok(())
}

/// The escapes that the RFC has are the ones that `serde_json` writes.
pub(super) fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The number laid out as ECMAScript does it, with all of its digits; nothing if its exponent fits nowhere.
fn number(text: &str) -> Option<String> {
    let (sign, magnitude) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = magnitude.split_once(['e', 'E']).unwrap_or((magnitude, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let written = format!("{whole}{fraction}");
    let digits = written.trim_start_matches('0');
    let zeroes = i64::try_from(written.len() - digits.len()).ok()?;
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        return Some("0".to_owned());
    }
    let exponent = i64::from(exponent.parse::<i32>().ok()?);
    let point = i64::try_from(whole.len()).ok()? + exponent - zeroes;
    Some(format!("{sign}{}", lay_out(digits, point)))
}

/// `digits` with the decimal point behind the first `point` of them.
fn lay_out(digits: &str, point: i64) -> String {
    let count = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let zeroes = |count: i64| "0".repeat(usize::try_from(count).unwrap_or_default());
    let split = |at: i64| digits.split_at(usize::try_from(at).unwrap_or_default());
    match point {
        1..=21 if point >= count => format!("{digits}{}", zeroes(point - count)),
        1..=21 => {
            let (whole, fraction) = split(point);
            format!("{whole}.{fraction}")
        }
        -5..=0 => format!("0.{}{digits}", zeroes(-point)),
        _ => {
            let (first, rest) = split(1);
            let dot = if rest.is_empty() { "" } else { "." };
            format!("{first}{dot}{rest}e{:+}", point - 1)
        }
    }
}

struct Members<'j>(Vec<(String, &'j RawValue)>);

impl<'j> Deserialize<'j> for Members<'j> {
    fn deserialize<D: Deserializer<'j>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'j> Visitor<'j> for MembersVisitor {
    type Value = Members<'j>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'j>>(self, mut map: A) -> Result<Members<'j>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}
