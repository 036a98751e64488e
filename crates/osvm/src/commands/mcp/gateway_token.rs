//! `osvm mcp gateway-token`: who may use the gateway, and for what.

mod add;
mod list;
mod remove;

use clap::Subcommand;

use crate::error::CliError;

/// Give clients of the gateway tokens of their own
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Add(add::Args),
    List(list::Args),
    Remove(remove::Args),
}

pub(crate) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Add(args) => add::run(args),
        Command::List(args) => list::run(&args),
        Command::Remove(args) => remove::run(&args),
    }
}
