//! `osvm mcp connect`

use osvm_spec::clients::{Client, Found, Spot, Start};
use osvm_spec::{Config, ServerName, Source as ValueSource};

use crate::client_file::{FoundFile, Source};
use crate::config_file::{ConfigFile, no_such};
use crate::error::CliError;
use crate::{backups, environment, output};

/// Have an MCP client start registered servers
///
/// Adds an entry for each to the client's file; export --restore takes them away again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm mcp connect cursor files github
  osvm mcp connect vscode files --dry-run")]
pub(crate) struct Args {
    /// claude-desktop, claude-code, cursor, vscode, windsurf, zed, gemini, or the path of a file like theirs
    client: Source,
    /// Names of servers
    #[arg(required = true, value_name = "NAME")]
    names: Vec<ServerName>,
    /// Show what would be written, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let config = ConfigFile::open()?.current()?;
    args.names.iter().try_for_each(|name| check(&config, name))?;
    let found = args.client.find()?;
    let (text, spots) = connected(&found, &args.names)?;
    let file = found.path.display();
    if spots.is_empty() {
        return output::line(format_args!("{file} has all of them already"));
    }
    if environment::has_own_home() {
        output::warning("OSVM_HOME is set here; the client must be started with it, too");
    }
    if args.dry_run {
        return found.show_change(Some(&text));
    }
    found.make_folder()?;
    backups::replace(&found, &text, &spots)?;
    let names: Vec<_> = spots.iter().map(|spot| spot.name.as_str()).collect();
    output::line(format_args!("added {} to {file}", names.join(", ")))?;
    output::hint(format_args!("osvm mcp export --restore {file} undoes that"));
    Ok(())
}

/// Whether it is there, and what the client must give it.
fn check(config: &Config, name: &ServerName) -> Result<(), CliError> {
    let server = config.server(name).ok_or_else(|| no_such(name, config.nearest(name)))?;
    for rule in &server.secrets {
        if let ValueSource::Environment(variable) = &rule.source {
            output::warning(format_args!(
                "{name} is given {variable} by the client, in whose environment it must be"
            ));
        }
    }
    Ok(())
}

/// The file's text with all of them, and where those are that it lacked.
fn connected(found: &FoundFile, names: &[ServerName]) -> Result<(String, Vec<Spot>), CliError> {
    let command = environment::own_program()?;
    let mut text = found.text.clone().unwrap_or_default();
    let mut spots: Vec<Spot> = Vec::new();
    for name in names {
        let args = ["mcp", "run", name.as_str()].map(str::to_owned).to_vec();
        let start = Start { command: command.clone(), args };
        let file = found.parse(&text)?;
        let place = found.client.map_or_else(|| file.places(None).remove(0), Client::place);
        let listed = file.servers(std::slice::from_ref(&place));
        let listed = listed.map_err(|error| found.fault(&error))?;
        let spot = Spot { place, name: name.to_string() };
        let own = listed.into_iter().find(|listed| listed.spot == spot);
        match own.map(|listed| listed.is) {
            Some(Found::Stdio(own)) if own.command == start.command && own.args == start.args => {}
            Some(_) => return Err(taken(found, name)),
            None => {
                let more = found.client.map(Client::more).unwrap_or_default();
                let added = file.with_entry(&spot, &start, more);
                text = added.map_err(|error| found.fault(&error))?;
                spots.push(spot);
            }
        }
    }
    Ok((text, spots))
}

fn taken(found: &FoundFile, name: &ServerName) -> CliError {
    let file = found.path.display();
    let error = CliError::failed(format!("{file} has another server called {name}"));
    error.hint(format!("osvm mcp import {file} {name} --rewrite"))
}
