//! What the user is told when a command does not do what it was asked, and the exit code.

use std::io::Write;
use std::process::ExitCode;

use osvm_daemon::api::{ApiError, ErrorKind};
use serde::Serialize;

use crate::output;

/// The one error at the door.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CliError {
    pub(crate) kind: Kind,
    /// A lowercase fragment: what failed, on which thing, why.
    message: String,
    /// What to type next.
    hints: Vec<String>,
}

/// What went wrong, as far as a script can tell by the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Failed,
    Usage,
    /// No such server, VM or tool.
    NoSuch,
    /// The VM or the VMM.
    Unavailable,
    ToolError,
    /// Policy forbids it.
    Refused,
    TimedOut,
    Interrupted,
    /// Whoever read standard output has seen enough; there is nothing to say.
    Closed,
    /// A command run for the user has ended with this status and said why itself.
    Exited(u8),
}

/// How errors are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Text,
    Json,
}

impl Kind {
    fn exit_code(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoSuch => 3,
            Self::Unavailable => 4,
            Self::ToolError => 5,
            Self::Refused => 6,
            Self::TimedOut => 7,
            Self::Interrupted => 130,
            Self::Exited(status) => status,
        }
    }

    fn is_silent(self) -> bool {
        matches!(self, Self::Closed | Self::Exited(_))
    }
}

impl CliError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new() }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The same error, told of a thing.
    #[must_use]
    pub(crate) fn about(mut self, thing: impl std::fmt::Display) -> Self {
        self.message = format!("{thing}: {}", self.message);
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Writes the error to standard error and gives the program's exit code.
    pub(crate) fn report(&self, form: Form) -> ExitCode {
        if !self.kind.is_silent() {
            let text = match form {
                Form::Text => self.text(),
                Form::Json => self.json(),
            };
            // With standard error gone as well, the exit code has to do.
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        self.kind.exit_code().into()
    }

    fn text(&self) -> String {
        let mut text = output::label("error", output::RED) + &output::safe(&self.message) + "\n";
        for hint in &self.hints {
            text += &(output::label("hint", output::CYAN) + &output::safe(hint) + "\n");
        }
        text
    }

    fn json(&self) -> String {
        let object = serde_json::json!({
            "kind": self.kind,
            "message": self.message,
            "hints": self.hints,
            "exit_code": self.kind.exit_code(),
        });
        object.to_string() + "\n"
    }
}

/// For those that are told over HTTP.
impl From<CliError> for ApiError {
    fn from(error: CliError) -> Self {
        Self { kind: ErrorKind::Failed, message: error.message, hints: error.hints }
    }
}

impl From<ApiError> for CliError {
    fn from(error: ApiError) -> Self {
        let kind = match error.kind {
            ErrorKind::Failed => Kind::Failed,
            ErrorKind::Usage => Kind::Usage,
            ErrorKind::NoSuch => Kind::NoSuch,
            ErrorKind::Unavailable => Kind::Unavailable,
            ErrorKind::ToolError => Kind::ToolError,
            ErrorKind::Refused => Kind::Refused,
            ErrorKind::TimedOut => Kind::TimedOut,
        };
        Self { kind, message: error.message, hints: error.hints }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_the_published_ones() {
        let codes = [
            (Kind::Closed, 0),
            (Kind::Failed, 1),
            (Kind::Usage, 2),
            (Kind::NoSuch, 3),
            (Kind::Unavailable, 4),
            (Kind::ToolError, 5),
            (Kind::Refused, 6),
            (Kind::TimedOut, 7),
            (Kind::Interrupted, 130),
            (Kind::Exited(42), 42),
        ];
        for (kind, code) in codes {
            assert_eq!(kind.exit_code(), code, "{kind:?}");
        }
    }

    #[test]
    fn json_errors_are_one_object_on_one_line() {
        let json = CliError::new(Kind::NoSuch, "no \"x\"\n").hint("osvm mcp list").json();
        let told =
            r#"{"exit_code":3,"hints":["osvm mcp list"],"kind":"no_such","message":"no \"x\"\n"}"#;
        assert_eq!(json, told.to_owned() + "\n");
    }

    #[test]
    fn a_guests_words_do_not_steer_the_terminal() {
        let text = CliError::failed("tool said \u{1b}[2J").text();
        assert!(text.ends_with("tool said \\u{1b}[2J\n"), "{text}");
    }
}
