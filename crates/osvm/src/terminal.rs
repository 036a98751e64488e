//! Questions to whoever sits at the terminal.

use std::io::{self, BufRead, IsTerminal};

use crate::error::{CliError, Kind};
use crate::output;

/// Whether somebody is there to answer.
pub(crate) fn is_attended() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// A line, without its end.
pub(crate) fn ask(question: &str) -> Result<String, CliError> {
    output::note(&output::safe(question));
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line) {
        Ok(0) => Err(CliError::new(Kind::Interrupted, "the question was not answered")),
        Ok(_) => Ok(line.trim_end_matches(['\n', '\r']).to_owned()),
        Err(error) => Err(CliError::failed(format!("can't read the answer: {error}"))),
    }
}

/// Anything but yes is no.
pub(crate) fn agrees(question: &str) -> Result<bool, CliError> {
    let answer = ask(&format!("{question} [y/N] "))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
