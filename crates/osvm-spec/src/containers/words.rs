//! A container's command line, taken apart as docker and podman do: which words are flags, which are their values,
//! and where the image's begin.

use super::ContainerError;
use super::flags::{Flag, find};

/// Whose command it is, and the words behind `run`. `None` where it is nobody's.
pub(super) fn of_run(argv: &[String]) -> Result<Option<(&'static str, &[String])>, ContainerError> {
    let Some((first, mut words)) = argv.split_first() else { return Ok(None) };
    let Some(program) = program(first) else { return Ok(None) };
    if words.first().is_some_and(|word| word == "container") {
        words = &words[1..];
    }
    match words.split_first() {
        Some((run, words)) if run == "run" => Ok(Some((program, words))),
        other => {
            let subcommand = other.map(|(word, _)| word.clone()).unwrap_or_default();
            Err(ContainerError::Subcommand { program, subcommand })
        }
    }
}

/// `docker` of `/usr/bin/docker` and of `docker.exe`.
fn program(word: &str) -> Option<&'static str> {
    let name = word.rsplit(['/', '\\']).next().unwrap_or_default().to_ascii_lowercase();
    match name.strip_suffix(".exe").unwrap_or(&name) {
        "docker" => Some("docker"),
        "podman" => Some("podman"),
        _ => None,
    }
}

/// A flag that was given, by the name that it was given by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) name: String,
    pub(super) flag: &'static Flag,
    /// Empty for a switch.
    pub(super) value: String,
}

/// The flags, and the words from the image on.
pub(super) fn split<'w>(
    program: &'static str,
    words: &'w [String],
) -> Result<(Vec<Given>, &'w [String]), ContainerError> {
    let mut given = Vec::new();
    let mut rest = words;
    while let Some((word, after)) = rest.split_first() {
        if word == "--" {
            return Ok((given, after));
        }
        if !word.starts_with('-') || word == "-" {
            break;
        }
        rest = after;
        match word.strip_prefix("--") {
            Some(long) => given.extend(long_flag(program, long, &mut rest)?),
            None => short_flags(program, &word[1..], &mut rest, &mut given)?,
        }
    }
    Ok((given, rest))
}

/// `--env=A=b`, `--env A=b`, `--rm`, `--rm=false`.
fn long_flag(
    program: &'static str,
    word: &str,
    rest: &mut &[String],
) -> Result<Option<Given>, ContainerError> {
    let (name, inline) = word.split_once('=').map_or((word, None), |(n, v)| (n, Some(v)));
    let name = format!("--{name}");
    let flag = find(program, &name)?;
    let value = match (flag.has_value, inline) {
        (false, None | Some("true")) => String::new(),
        (false, Some("false")) => return Ok(None),
        (false, Some(_)) => {
            return Err(ContainerError::Value { program, flag: name, why: "it is a switch" });
        }
        (true, Some(value)) => value.to_owned(),
        (true, None) => next(program, &name, rest)?,
    };
    Ok(Some(Given { name, flag, value }))
}

/// `-i`, `-it`, `-e A=b`, `-eA=b`, `-ie A=b`.
fn short_flags(
    program: &'static str,
    letters: &str,
    rest: &mut &[String],
    given: &mut Vec<Given>,
) -> Result<(), ContainerError> {
    let mut left = letters;
    while let Some(letter) = left.chars().next() {
        left = &left[letter.len_utf8()..];
        let name = format!("-{letter}");
        let flag = find(program, &name)?;
        let value = match (flag.has_value, std::mem::take(&mut left)) {
            (false, others) => {
                left = others;
                String::new()
            }
            (true, "") => next(program, &name, rest)?,
            (true, inline) => inline.strip_prefix('=').unwrap_or(inline).to_owned(),
        };
        given.push(Given { name, flag, value });
    }
    Ok(())
}

fn next(program: &'static str, flag: &str, rest: &mut &[String]) -> Result<String, ContainerError> {
    let none = || ContainerError::NoValue { program, flag: flag.to_owned() };
    let (value, after) = rest.split_first().ok_or_else(none)?;
    *rest = after;
    Ok(value.clone())
}
