//! `osvm mcp show`

use std::num::NonZeroU32;

use osvm_spec::config::{Entry, Tool};
use osvm_spec::lock::Tools;
use osvm_spec::{Hosts, ServerName, ToolPattern, command};

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
    let config = ConfigFile::open()?.current()?;
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
        ("template", server.template.map(|level| level.to_string())),
    ];
    let variables = server.env.iter().map(|(name, value)| ("env", Some(format!("{name}={value}"))));
    lines.extend(variables);
    lines.extend(server.secrets.iter().map(|secret| ("secret", Some(secret.to_string()))));
    lines.extend(hosts(&server.hosts));
    lines.extend(server.folders.iter().map(|folder| ("mount", Some(folder.to_string()))));
    lines.extend(tools("allowed", server.allow_tools.as_deref()));
    let denied = Some(server.deny_tools.as_slice()).filter(|denied| !denied.is_empty());
    lines.extend(tools("denied", denied));
    lines.push(("calls", server.calls_per_minute.map(a_minute)));
    lines.push(("shared", server.shared.then(|| "by tokens of the gateway".to_owned())));
    for tool in &server.tools {
        lines.push(("tool", Some(limits(tool))));
        lines.extend(tool.hosts.iter().flat_map(hosts));
    }
    lines.into_iter().filter_map(|(label, value)| Some(line(label, &value?))).collect()
}

/// Names of tools, if anything is said of them.
fn tools(
    label: &'static str,
    patterns: Option<&[ToolPattern]>,
) -> Option<(&'static str, Option<String>)> {
    let names: Vec<_> = patterns?.iter().map(ToString::to_string).collect();
    let none = if names.is_empty() { "no tool" } else { "" };
    Some((label, Some(names.join(", ") + none)))
}

fn limits(tool: &Tool) -> String {
    let denied = tool.denied.then(|| "denied".to_owned());
    let confirm = tool.confirm.then(|| "to be confirmed".to_owned());
    let size = tool.max_result_bytes.map(|bytes| format!("at most {bytes} bytes"));
    let time = tool.timeout_seconds.map(|seconds| format!("at most {seconds} s"));
    let calls = tool.calls_per_minute.map(a_minute);
    let said = [Some(tool.isolation.to_string()), denied, confirm, size, time, calls];
    format!("{}: {}", tool.name, said.into_iter().flatten().collect::<Vec<_>>().join(", "))
}

fn a_minute(limit: NonZeroU32) -> String {
    format!("at most {limit} a minute")
}

fn hosts(hosts: &Hosts) -> impl Iterator<Item = (&'static str, Option<String>)> {
    let allow = hosts.allow.iter().map(|rule| ("allow", Some(rule.to_string())));
    allow.chain(hosts.allow_private.iter().map(|rule| ("private", Some(rule.to_string()))))
}

fn line(label: &str, value: &str) -> String {
    format!("{label:10} {}\n", output::safe(value))
}
