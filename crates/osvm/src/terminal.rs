//! Questions to whoever sits at the terminal.

use std::io::{self, BufRead, IsTerminal};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

use crate::error::{CliError, Kind};
use crate::output;

/// What Ctrl-C types.
const INTERRUPT: char = '\u{3}';

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

/// A line that is not shown.
pub(crate) fn ask_hidden(question: &str) -> Result<String, CliError> {
    let hidden = Hidden::new().map_err(|error| {
        CliError::failed(format!("can't keep the terminal from showing the answer: {error}"))
    })?;
    let line = ask(question);
    drop(hidden);
    output::note("\n");
    match line? {
        line if line.contains(INTERRUPT) => Err(CliError::new(Kind::Interrupted, "interrupted")),
        line => Ok(line),
    }
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn new() -> rustix::io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        // Ctrl-C ends the line, as the program must not end before the terminal is as it was.
        hidden.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
        hidden.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT as u8;
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
