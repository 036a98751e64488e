//! Packages of npm: names as `validate-npm-package-name` takes them, and what stands behind the `@`.

use super::{Ecosystem, Elsewhere, Package, PackageError, Wanted};

/// Longest name, in bytes.
const MAX: usize = 214;

pub(super) fn package(text: &str) -> Result<Package, PackageError> {
    if let Some(place) = Elsewhere::of(text) {
        return Err(place.refuse(text));
    }
    // The first one may be a scope's.
    let at = text.char_indices().skip(1).find(|(_, c)| *c == '@').map(|(at, _)| at);
    let (name, wanted) = at.map_or((text, ""), |at| (&text[..at], text[at + 1..].trim()));
    if !name.starts_with('@') && name.contains('/') {
        return Err(Elsewhere::Git.refuse(text));
    }
    check_name(name)?;
    if let Some(place) = Elsewhere::of(wanted).or_else(|| repository(wanted)) {
        return Err(place.refuse(text));
    }
    let wrong = || PackageError::Wanted {
        ecosystem: Ecosystem::Npm,
        name: name.to_owned(),
        wanted: wanted.to_owned(),
    };
    let wanted = classify(wanted).ok_or_else(wrong)?;
    Ok(Package { name: name.to_owned(), extras: Vec::new(), wanted })
}

pub(super) fn spec(package: &Package) -> String {
    match &package.wanted {
        Wanted::Any => package.name.clone(),
        Wanted::Exact(wanted) | Wanted::Range(wanted) | Wanted::Tag(wanted) => {
            format!("{}@{wanted}", package.name)
        }
    }
}

/// `name@user/repository`.
fn repository(wanted: &str) -> Option<Elsewhere> {
    wanted.contains('/').then_some(Elsewhere::Git)
}

fn check_name(name: &str) -> Result<(), PackageError> {
    let why = match name.strip_prefix('@') {
        Some(scoped) => scoped.split_once('/').map_or(Some("its scope is followed by no name"), {
            |(scope, name)| wrong_part(scope).or_else(|| wrong_part(name))
        }),
        None => wrong_part(name),
    };
    let why = why.or_else(|| (name.len() > MAX).then_some("it is longer than 214 bytes"));
    let name = name.to_owned();
    why.map_or(Ok(()), |why| Err(PackageError::Name { ecosystem: Ecosystem::Npm, name, why }))
}

/// Old packages have capital letters. A name that begins with `-` is a flag to npm.
fn wrong_part(part: &str) -> Option<&'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match part {
        "" => Some("it is empty"),
        "node_modules" | "favicon.ico" => Some("it is reserved"),
        part if part.starts_with(['.', '_', '-']) => Some("it begins with '.', '_' or '-'"),
        part if !part.chars().all(allowed) => {
            Some("letters, digits, '-', '_' and '.' are allowed, and a scope in front")
        }
        _ => None,
    }
}

fn classify(text: &str) -> Option<Wanted> {
    if text.is_empty() {
        return Some(Wanted::Any);
    }
    if let Some(version) = exact(text) {
        return Some(Wanted::Exact(version.to_owned()));
    }
    if let Some(range) = range(text) {
        return Some(Wanted::Range(range));
    }
    let is_tag = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    (is_tag && !text.starts_with(['-', '.'])).then(|| Wanted::Tag(text.to_owned()))
}

/// `1.2.3-pre+build`, with the `v` or `=` in front that npm lets pass.
fn exact(text: &str) -> Option<&str> {
    let text = text.strip_prefix(['v', '=']).unwrap_or(text);
    let (numbers, rest) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
    let mut parts = numbers.split('.');
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let plain = rest.is_empty() || (rest.len() > 1 && is_version(rest));
    (parts.by_ref().take(3).filter(|part| is_number(part)).count() == 3
        && parts.next().is_none()
        && plain)
        .then_some(text)
}

/// Comparators with single blanks between, if all are ones.
fn range(text: &str) -> Option<String> {
    let alternatives = text.split("||").map(|alternative| {
        let words: Vec<_> = alternative.split_whitespace().collect();
        (!words.is_empty() && words.iter().all(|word| is_comparator(word))).then(|| words.join(" "))
    });
    alternatives.collect::<Option<Vec<_>>>().map(|all| all.join(" || "))
}

fn is_comparator(word: &str) -> bool {
    let version = word.trim_start_matches(['<', '>', '=', '~', '^']);
    let has_operator = version.len() < word.len();
    let version = version.strip_prefix('v').unwrap_or(version);
    let first = version.split(['.', '-', '+']).next().unwrap_or_default();
    let is_partial = matches!(first, "x" | "X" | "*")
        || (!first.is_empty() && first.bytes().all(|b| b.is_ascii_digit()));
    match version {
        "" => has_operator,
        "-" => !has_operator,
        version => is_partial && is_version(version),
    }
}

fn is_version(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-+*".contains(&b))
}
