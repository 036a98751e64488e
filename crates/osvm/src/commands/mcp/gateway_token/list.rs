//! `osvm mcp gateway-token list`

use std::fmt::Display;
use std::num::NonZeroU32;

use osvm_spec::config::{Token, TokenName};
use osvm_spec::{ServerName, ToolPattern};
use serde::Serialize;

use crate::config_file::ConfigFile;
use crate::error::CliError;
use crate::output;
use crate::table::{Side, Table};

/// List the tokens and what they may do
///
/// Neither the tokens nor their digests are shown, nor is the one in gateway.token, which may do everything.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// A token without its digest; null is everything.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a TokenName,
    servers: Option<&'a [ServerName]>,
    tools: Option<&'a [ToolPattern]>,
    requests_per_minute: Option<NonZeroU32>,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let config = ConfigFile::open()?.current()?;
    let tokens = &config.gateway.tokens;
    if args.json {
        return output::json(&tokens.iter().map(shown).collect::<Vec<_>>());
    }
    if tokens.is_empty() {
        output::line("there is no token but that in gateway.token")?;
        output::hint("osvm mcp gateway-token add NAME");
        return Ok(());
    }
    let mut table = Table::new(&[
        ("NAME", Side::Left),
        ("SERVERS", Side::Left),
        ("TOOLS", Side::Left),
        ("REQUESTS/MIN", Side::Right),
    ]);
    for token in tokens {
        let limit = token.rights.requests_per_minute.map(|limit| limit.to_string());
        table.row(vec![
            token.name.to_string(),
            words(token.rights.servers.as_deref()),
            words(token.rights.tools.as_deref()),
            limit.unwrap_or_else(|| "any".to_owned()),
        ]);
    }
    output::text(&table.to_string())
}

fn shown(token: &Token) -> Shown<'_> {
    Shown {
        name: &token.name,
        servers: token.rights.servers.as_deref(),
        tools: token.rights.tools.as_deref(),
        requests_per_minute: token.rights.requests_per_minute,
    }
}

fn words(some: Option<&[impl Display]>) -> String {
    match some {
        None => "all".to_owned(),
        Some([]) => "none".to_owned(),
        Some(some) => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}
