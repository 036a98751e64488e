//! A server's command as one line of text: split and joined the way a shell does, nothing expanded.

use thiserror::Error;

/// Why a line is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CommandError {
    #[error("command is empty")]
    Empty,
    #[error("command has a quote that is never closed or a backslash at its end")]
    Unclosed,
    #[error("command holds a zero byte, which no program can be given")]
    ZeroByte,
}

/// Program and arguments of a line such as `node server.js --name "two words"`.
pub fn split(line: &str) -> Result<Vec<String>, CommandError> {
    check(shlex::split(line).ok_or(CommandError::Unclosed)?)
}

/// Refuses a command without a program, or with a zero byte in it.
pub fn check(argv: Vec<String>) -> Result<Vec<String>, CommandError> {
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(CommandError::ZeroByte);
    }
    match argv.first() {
        Some(program) if !program.is_empty() => Ok(argv),
        _ => Err(CommandError::Empty),
    }
}

/// The line that [`split`] gives back as these words.
pub fn join(argv: &[String]) -> String {
    argv.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| format!("{word:?}"), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_group_words() {
        assert_eq!(split("a 'b c' \"d\" e\\ f").unwrap(), ["a", "b c", "d", "e f"]);
    }

    #[test]
    fn variables_and_pipes_are_plain_text() {
        assert_eq!(split("echo $HOME | tee").unwrap(), ["echo", "$HOME", "|", "tee"]);
    }

    #[test]
    fn half_a_quote_and_nothing_at_all_are_refused() {
        assert_eq!(split("a 'b"), Err(CommandError::Unclosed));
        assert_eq!(split("  "), Err(CommandError::Empty));
        assert_eq!(split("''"), Err(CommandError::Empty));
    }

    #[test]
    fn a_zero_byte_is_refused() {
        assert_eq!(split("a b\0c"), Err(CommandError::ZeroByte));
    }

    proptest::proptest! {
        #[test]
        fn joined_words_split_into_themselves(
            argv in proptest::collection::vec("[^\0\n]{1,12}", 1..5)
        ) {
            proptest::prop_assert_eq!(split(&join(&argv)).unwrap(), argv);
        }
    }
}
