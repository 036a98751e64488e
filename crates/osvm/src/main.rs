//! The `osvm` command: arguments, output, exit codes. What it does is done by the daemon.
#![forbid(unsafe_code)]

mod acceptance;
mod backups;
mod cli;
mod client_file;
mod commands;
mod config_file;
mod daemon;
mod environment;
mod error;
mod gateway_token;
mod images;
mod output;
mod progress;
mod registration;
mod secret_files;
mod secrets;
mod table;
mod terminal;

fn main() -> std::process::ExitCode {
    cli::main()
}
