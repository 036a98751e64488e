//! The `osvm` command: arguments, output, exit codes. What it does is done by the daemon.
#![forbid(unsafe_code)]

mod backups;
mod cli;
mod client_file;
mod commands;
mod config_file;
mod daemon;
mod environment;
mod error;
mod images;
mod output;
mod progress;
mod registration;
mod replacement;
mod secret_files;
mod secrets;
mod table;

fn main() -> std::process::ExitCode {
    cli::main()
}
