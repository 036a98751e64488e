//! Packages of PyPI: names by PEP 503, extras, and version specifiers by PEP 440 as far as their
//! form goes; uv knows the rest.

use super::{Ecosystem, Elsewhere, Package, PackageError, Wanted};

/// The longer before what they begin with.
const OPERATORS: [&str; 8] = ["===", "~=", "==", "!=", "<=", ">=", "<", ">"];

pub(super) fn package(text: &str) -> Result<Package, PackageError> {
    if let Some(place) = Elsewhere::of(text) {
        return Err(place.refuse(text));
    }
    if text.contains(';') {
        return Err(PackageError::Marker(text.to_owned()));
    }
    let end = text.find(|c: char| !is_name_char(c)).unwrap_or(text.len());
    let (written, rest) = text.split_at(end);
    if rest.starts_with('/') {
        return Err(Elsewhere::Path.refuse(text));
    }
    let name = normalise(written)?;
    let (extras, rest) = extras(rest.trim_start()).ok_or_else(|| wrong(&name, rest))?;
    let extras = sorted(extras)?;
    let wanted = match rest.strip_prefix('@').map(str::trim) {
        None => specifiers(rest).ok_or_else(|| wrong(&name, rest))?,
        Some(place) if is_elsewhere(place) => {
            return Err(Elsewhere::of(place).unwrap_or(Elsewhere::Path).refuse(text));
        }
        // A tool is built once, from the newest there is: that is what uv's `@latest` asks for.
        Some("latest") => Wanted::Any,
        Some(version) if is_version(version) => Wanted::Exact(version.to_owned()),
        Some(version) => return Err(wrong(&name, version)),
    };
    Ok(Package { name, extras, wanted })
}

pub(super) fn spec(package: &Package) -> String {
    let extras = match package.extras.as_slice() {
        [] => String::new(),
        extras => format!("[{}]", extras.join(",")),
    };
    let wanted = match &package.wanted {
        Wanted::Any => String::new(),
        Wanted::Exact(version) => format!("=={version}"),
        Wanted::Range(range) | Wanted::Tag(range) => range.clone(),
    };
    format!("{}{extras}{wanted}", package.name)
}

/// The requirements of a list with commas, which stand within a requirement, too.
pub(super) fn split_list(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut within) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '[' => within = true,
            ']' => within = false,
            ',' if !within && text[at + 1..].trim_start().starts_with(is_name_char) => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn wrong(name: &str, wanted: &str) -> PackageError {
    let (name, wanted) = (name.to_owned(), wanted.trim().to_owned());
    PackageError::Wanted { ecosystem: Ecosystem::PyPi, name, wanted }
}

fn is_elsewhere(text: &str) -> bool {
    Elsewhere::of(text).is_some() || text.contains('/')
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

/// In small letters, with one `-` for each run of `-`, `_` and `.`.
fn normalise(name: &str) -> Result<String, PackageError> {
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !outer(name.chars().next()) || !outer(name.chars().last()) {
        let why = "letters and digits are allowed, and '-', '_' and '.' between them";
        let name = name.to_owned();
        return Err(PackageError::Name { ecosystem: Ecosystem::PyPi, name, why });
    }
    let parts = name.split(['-', '_', '.']).filter(|part| !part.is_empty());
    Ok(parts.collect::<Vec<_>>().join("-").to_ascii_lowercase())
}

/// What is between brackets at the start, and what follows.
fn extras(text: &str) -> Option<(Vec<&str>, &str)> {
    let Some(inner) = text.strip_prefix('[') else { return Some((Vec::new(), text)) };
    let (list, rest) = inner.split_once(']')?;
    let names: Vec<_> = list.split(',').map(str::trim).collect();
    let plain = names.iter().all(|name| name.chars().all(is_name_char));
    plain.then_some((names, rest.trim_start()))
}

fn sorted(extras: Vec<&str>) -> Result<Vec<String>, PackageError> {
    let mut extras: Vec<_> = extras.into_iter().map(normalise).collect::<Result<_, _>>()?;
    extras.sort_unstable();
    extras.dedup();
    Ok(extras)
}

fn specifiers(text: &str) -> Option<Wanted> {
    if text.trim().is_empty() {
        return Some(Wanted::Any);
    }
    let all: Vec<_> = text.split(',').map(|one| specifier(one.trim())).collect::<Option<_>>()?;
    Some(match all.as_slice() {
        [("==", version)] if !version.ends_with('*') => Wanted::Exact((*version).to_owned()),
        all => {
            Wanted::Range(all.iter().map(|(o, v)| format!("{o}{v}")).collect::<Vec<_>>().join(","))
        }
    })
}

fn specifier(text: &str) -> Option<(&'static str, &str)> {
    let operator = OPERATORS.into_iter().find(|operator| text.starts_with(operator))?;
    let version = text[operator.len()..].trim();
    let plain = match operator {
        "==" | "!=" => version.strip_suffix(".*").unwrap_or(version),
        _ => version,
    };
    is_version(plain).then_some((operator, version))
}

fn is_version(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b".+!_-".contains(&b));
    plain && text.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit())
}
