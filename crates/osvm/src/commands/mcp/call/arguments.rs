//! A tool's arguments from the command line: found, read, and known to be a JSON object.

use std::io::{self, Read};

use serde_json::value::RawValue;

use crate::error::CliError;

/// The text itself, of standard input (`-`) or of a file (`@path`), checked here so that nothing
/// is started for arguments that no tool could take.
pub(in super::super) fn read(written: &str) -> Result<Box<RawValue>, CliError> {
    match (written, written.strip_prefix('@')) {
        ("-", _) => check("standard input", stdin()?),
        (_, Some(path)) => check(path, file(path)?),
        _ => check("the arguments", written.to_owned()),
    }
}

fn stdin() -> Result<String, CliError> {
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| CliError::failed(format!("can't read standard input: {error}")))?;
    Ok(text)
}

fn file(path: &str) -> Result<String, CliError> {
    std::fs::read_to_string(path)
        .map_err(|error| CliError::failed(format!("can't read {path}: {error}")))
}

fn check(origin: &str, text: String) -> Result<Box<RawValue>, CliError> {
    let json = RawValue::from_string(text).map_err(|error| {
        CliError::usage(format!("{origin}: {error}"))
            .hint("quote the JSON for the shell: '{\"param\":\"value\"}'")
    })?;
    match json.get().trim_start().as_bytes().first() {
        Some(b'{') => Ok(json),
        first => Err(CliError::usage(format!(
            "{origin}: {} is not a JSON object",
            kind(first.copied().unwrap_or_default())
        ))),
    }
}

fn kind(first: u8) -> &'static str {
    match first {
        b'[' => "an array",
        b'"' => "a string",
        b't' | b'f' => "true or false",
        b'n' => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        read(text).unwrap_err().message().to_owned()
    }

    #[test]
    fn an_object_passes_byte_for_byte() {
        let text = r#"{ "a": 1.50, "b": {} }"#;
        assert_eq!(read(text).unwrap().get(), text);
    }

    #[test]
    fn malformed_json_is_told_with_its_place() {
        assert_eq!(fault("{\"a\": }"), "the arguments: expected value at line 1 column 7");
        assert!(fault("{'a': 1}").contains("line 1 column 2"));
        assert!(fault("").contains("EOF while parsing"));
        assert!(fault("{} {}").contains("trailing characters"));
    }

    #[test]
    fn what_is_no_object_is_named() {
        assert_eq!(fault("[1]"), "the arguments: an array is not a JSON object");
        assert_eq!(fault("-1"), "the arguments: a number is not a JSON object");
        assert_eq!(fault("null"), "the arguments: null is not a JSON object");
    }

    #[test]
    fn a_file_is_named_in_its_faults() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("args.json");
        std::fs::write(&path, "[]").unwrap();
        let path = path.display();
        assert_eq!(fault(&format!("@{path}")), format!("{path}: an array is not a JSON object"));
        assert!(fault("@/nowhere").starts_with("can't read /nowhere: "));
    }

    #[test]
    fn twenty_megabytes_are_nothing_special() {
        let text = format!("{{\"text\":\"{}\"}}", "x".repeat(20 << 20));
        assert_eq!(read(&text).unwrap().get().len(), text.len());
    }
}
