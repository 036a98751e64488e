//! `osvm mcp show`

use osvm_spec::config::Entry;
use osvm_spec::lock::Tools;
use osvm_spec::{Hosts, ServerName, command};

use crate::config_file::{ConfigFile, no_such};
use crate::error::CliError;
use crate::{acceptance, output};

/// Show what is registered about a server
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let config = ConfigFile::open()?.read()?;
    let server =
        config.server(&args.name).ok_or_else(|| no_such(&args.name, config.nearest(&args.name)))?;
    match args.json {
        true => output::json(&server.shown()),
        false => output::text(&(text(&server.shown()) + &accepted(&args.name)?)),
    }
}

/// What of the server was accepted.
fn accepted(name: &ServerName) -> Result<String, CliError> {
    let Some(locked) = acceptance::lock_file()?.of_server(name)? else { return Ok(String::new()) };
    let tools = match &locked.tools {
        Tools::Pending => "tools pending".to_owned(),
        Tools::Known(tools) => format!("{} tools", tools.len()),
    };
    let packages = locked.packages.len();
    Ok(line("accepted", &format!("{}, {packages} packages, {tools}", locked.image)))
}

pub(super) fn state(server: &Entry) -> &'static str {
    match server.enabled {
        true => "enabled",
        false => "disabled",
    }
}

fn text(server: &Entry) -> String {
    let size = server.microvm_config;
    let command = (!server.command.is_empty()).then(|| command::join(&server.command));
    let mut lines = vec![
        ("name", Some(server.id.to_string())),
        ("title", server.name.clone()),
        ("state", Some(state(server).to_owned())),
        ("isolation", Some(server.isolation.to_string())),
        ("command", command),
        ("image", server.image.as_ref().map(ToString::to_string)),
        ("kernel", server.kernel.clone()),
        ("user", server.user.clone()),
        ("folder", server.working_dir.clone()),
        ("memory", size.memory_mb.map(|mib| format!("{mib} MiB"))),
        ("vcpus", size.vcpus.map(|count| count.to_string())),
    ];
    let variables = server.env.iter().map(|(name, value)| ("env", Some(format!("{name}={value}"))));
    lines.extend(variables);
    lines.extend(server.secrets.iter().map(|secret| ("secret", Some(secret.to_string()))));
    lines.extend(hosts(&server.hosts));
    lines.extend(server.folders.iter().map(|folder| ("mount", Some(folder.to_string()))));
    for tool in &server.tools {
        lines.push(("tool", Some(format!("{}: {}", tool.name, tool.isolation))));
        lines.extend(tool.hosts.iter().flat_map(hosts));
    }
    lines.into_iter().filter_map(|(label, value)| Some(line(label, &value?))).collect()
}

fn hosts(hosts: &Hosts) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let allow = hosts.allow.iter().map(|rule| ("allow", Some(rule.to_string())));
    allow.chain(hosts.allow_private.iter().map(|rule| ("private", Some(rule.to_string()))))
}

fn line(label: &str, value: &str) -> String {
    format!("{label:10} {}\n", output::safe(value))
}
