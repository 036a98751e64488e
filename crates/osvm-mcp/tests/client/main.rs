//! The client against servers: played by hand where they misbehave, rmcp's where they behave.
#![expect(clippy::unwrap_used, reason = "a test ends with what it did not expect")]

mod bridged;
mod eras;
mod hostile;
mod lists;
mod peer;
mod resumed;
mod sdk;
mod tools;
