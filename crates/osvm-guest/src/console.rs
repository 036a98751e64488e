//! The agent's own lines on the VM's console, where people look when a VM does not come up.

use std::fmt::Arguments;

/// Writes one line. A console that can't be written to is no reason to stop.
pub(crate) fn say(line: Arguments<'_>) {
    let line = format!("osvm-guest: {line}\n");
    let _ = rustix::io::write(rustix::stdio::stderr(), line.as_bytes());
}

/// An error with everything that caused it, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
