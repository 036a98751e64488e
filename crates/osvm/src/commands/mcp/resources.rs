//! `osvm mcp resources`

use osvm_daemon::api::Listing;
use osvm_spec::ServerName;
use serde::Serialize;
use serde_json::value::RawValue;

use super::items;
use crate::error::CliError;
use crate::{daemon, output};

/// List a server's resources and resource templates
///
/// Starts the server's VM when none runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
    /// Print a JSON object of both lists as the server wrote them
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resources {
    resources: Vec<Box<RawValue>>,
    resource_templates: Vec<Box<RawValue>>,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let found = daemon::with(async |client| {
        Ok(Resources {
            resources: items::ask(&client, &args.name, Listing::Resources).await?,
            resource_templates: items::ask(&client, &args.name, Listing::ResourceTemplates).await?,
        })
    })?;
    if args.json {
        return output::json(&found);
    }
    let all: Vec<_> = found.resources.into_iter().chain(found.resource_templates).collect();
    output::text(&items::table("RESOURCE", &all)?.to_string())
}
