//! `osvm mcp`: servers.

mod accept;
mod add;
mod answer;
mod audit;
mod call;
mod connect;
mod disable;
mod enable;
mod export;
mod gateway;
mod gateway_token;
mod import;
mod items;
mod list;
mod microvm;
mod prompts;
mod record;
mod remove;
mod resources;
mod run;
mod show;
mod tools;
mod update;
mod vm_options;

use clap::Subcommand;

use crate::error::CliError;

/// Register MCP servers and use them
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Add(add::Args),
    Import(import::Args),
    Export(export::Args),
    Connect(connect::Args),
    List(list::Args),
    Show(show::Args),
    Accept(accept::Args),
    Update(update::Args),
    Remove(remove::Args),
    Enable(enable::Args),
    Disable(disable::Args),
    Tools(tools::Args),
    Resources(resources::Args),
    Prompts(prompts::Args),
    Call(call::Args),
    Run(run::Args),
    Gateway(gateway::Args),
    #[command(subcommand)]
    GatewayToken(gateway_token::Command),
    Record(record::Args),
    Audit(audit::Args),
    #[command(subcommand)]
    Microvm(microvm::Command),
}

pub(crate) fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Add(args) => add::run(args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(&args),
        Command::Connect(args) => connect::run(args),
        Command::List(args) => list::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Accept(args) => accept::run(&args),
        Command::Update(args) => update::run(&args),
        Command::Remove(args) => remove::run(&args),
        Command::Enable(args) => enable::run(&args),
        Command::Disable(args) => disable::run(&args),
        Command::Tools(args) => tools::run(&args),
        Command::Resources(args) => resources::run(&args),
        Command::Prompts(args) => prompts::run(&args),
        Command::Call(args) => call::run(args),
        Command::Run(args) => run::run(&args),
        Command::Gateway(args) => gateway::run(args),
        Command::GatewayToken(command) => gateway_token::run(command),
        Command::Record(args) => record::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Microvm(command) => microvm::run(command),
    }
}
