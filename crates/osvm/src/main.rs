//! The `osvm` command: arguments, output, exit codes. What it does is done by the daemon.
#![forbid(unsafe_code)]

mod cli;
mod commands;
mod config_file;
mod daemon;
mod environment;
mod error;
mod images;
mod output;
mod progress;
mod secrets;
mod table;
mod terminal;

fn main() -> std::process::ExitCode {
    cli::main()
}
