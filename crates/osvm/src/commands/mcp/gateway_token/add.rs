//! `osvm mcp gateway-token add`

use std::num::NonZeroU32;

use osvm_spec::config::{Rights, Token, TokenDigest, TokenName};
use osvm_spec::{ServerName, ToolPattern, edit};

use crate::config_file::{ConfigFile, no_such};
use crate::error::CliError;
use crate::{gateway_token, output};

/// Make a token, and print it this once
///
/// The configuration keeps its SHA-256 alone. A gateway that runs knows it at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm mcp gateway-token add ci --server time --server files --tool 'files__read_*' --tool 'time__*'
  osvm mcp gateway-token add laptop --requests-per-minute 600")]
pub(crate) struct Args {
    /// What lists and the record of calls call it; "default" is the token in gateway.token
    name: TokenName,
    /// Serve it this server; may be repeated; all that are enabled when absent
    #[arg(long = "server", value_name = "NAME")]
    servers: Vec<ServerName>,
    /// Serve it these tools, as in files__read_*; may be repeated; all of its servers when absent
    #[arg(long = "tool", value_name = "PATTERN")]
    tools: Vec<ToolPattern>,
    /// Answer so many of its requests a minute
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests_per_minute: Option<u32>,
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let file = ConfigFile::open()?;
    let config = file.current()?;
    if let Some(name) = args.servers.iter().find(|name| config.server(name).is_none()) {
        return Err(no_such(name, config.nearest(name)));
    }
    let token = gateway_token::random()?;
    let entry = Token {
        name: args.name,
        sha256: TokenDigest::of(&token),
        rights: Rights {
            servers: Some(args.servers).filter(|servers| !servers.is_empty()),
            tools: Some(args.tools).filter(|tools| !tools.is_empty()),
            requests_per_minute: args.requests_per_minute.and_then(NonZeroU32::new),
        },
    };
    file.edit(|text, file| edit::add_token(text, file, &entry))?;
    output::note(&format!("the token of {}, which is not shown again:\n", entry.name));
    output::line(token)
}
