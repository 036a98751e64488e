//! `osvm mcp list`

use osvm_spec::command;
use osvm_spec::config::Entry;

use crate::config_file::ConfigFile;
use crate::error::CliError;
use crate::output;
use crate::table::{Side::Left, Table};

/// List the registered servers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let config = ConfigFile::open()?.current()?;
    let servers = &config.servers;
    if args.json {
        return output::json(&servers.iter().map(Entry::shown).collect::<Vec<_>>());
    }
    if servers.is_empty() {
        output::line("no server is registered")?;
        output::hint("osvm mcp add NAME --image PATH");
        return Ok(());
    }
    let headings = [("NAME", Left), ("STATE", Left), ("ISOLATION", Left), ("COMMAND", Left)];
    let mut table = Table::new(&headings);
    servers.iter().for_each(|server| table.row(row(server)));
    output::text(&table.to_string())
}

fn row(server: &Entry) -> Vec<String> {
    vec![
        server.id.to_string(),
        super::show::state(server).to_owned(),
        server.isolation.to_string(),
        match server.command.is_empty() {
            true => "(of the image)".to_owned(),
            false => command::join(&server.command),
        },
    ]
}
