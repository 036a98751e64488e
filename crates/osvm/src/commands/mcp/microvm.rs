//! `osvm mcp microvm`: the VMs that servers live in.

mod exec;
pub(super) mod launch;
mod launch_many;
mod logs;
mod status;
mod stop;
mod suspend;
mod test;

use clap::Subcommand;

use crate::error::CliError;

/// Launch, watch and stop microVMs
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Launch(launch::Args),
    LaunchMany(launch_many::Args),
    Status(status::Args),
    Suspend(suspend::Args),
    Stop(stop::Args),
    Logs(logs::Args),
    Exec(exec::Args),
    Test(test::Args),
}

pub(crate) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Launch(args) => launch::run(args),
        Command::LaunchMany(args) => launch_many::run(args),
        Command::Status(args) => status::run(&args),
        Command::Suspend(args) => suspend::run(&args),
        Command::Stop(args) => stop::run(&args),
        Command::Logs(args) => logs::run(&args),
        Command::Exec(args) => exec::run(args),
        Command::Test(args) => test::run(&args),
    }
}
