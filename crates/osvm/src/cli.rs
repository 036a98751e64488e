//! The top of the command line: parse, dispatch, and one place where errors leave the program.

use std::ffi::{OsStr, OsString};
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use osvm_daemon::shim;

use crate::commands::{completions, daemon, doctor, image, mcp, setup};
use crate::error::{CliError, Form};
use crate::{environment, output};

/// Runs every MCP server in a microVM of its own.
#[derive(Debug, Parser)]
#[command(name = "osvm", version, max_term_width = 100)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  osvm setup
  osvm mcp microvm test
  osvm mcp add files --image ./rootfs -- /bin/server /data
  osvm mcp call files list '{\"path\":\"/data\"}'

Environment:
  OSVM_HOME         configuration, images, kernel, logs [default: ~/.osvm]
  OSVM_RUNTIME_DIR  a folder for each running VM [default: /tmp]
  OSVM_MEMORY_MB, OSVM_VCPUS, OSVM_HYPERVISOR, OSVM_ROOTFS, OSVM_KERNEL
                    stronger than the configuration, weaker than flags
  OSVM_IDLE_SUSPEND_SECONDS, OSVM_IDLE_STOP_SECONDS, OSVM_SUSPENDED_STOP_SECONDS
                    of VMs that a call started, in place of what is configured; 0: never
  OSVM_REHEARSE_SECONDS
                    for so long nothing has been going on when a server runs once for the
                    template of its later VMs [default: 20; 0: never]
  OSVM_LOG          what the daemon logs [default: info]
  NO_COLOR          no colours

Exit codes:
  0 done; 1 failed; 2 usage; 3 no such server, VM or tool; 4 VM or VMM unavailable; 5 the tool
  reported an error; 6 refused by policy; 7 timed out; 130 interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    Setup(setup::Args),
    Doctor(doctor::Args),
    #[command(subcommand)]
    Mcp(Box<mcp::Command>),
    #[command(subcommand)]
    Image(image::Command),
    Daemon(daemon::Args),
    Completions(completions::Args),
}

/// The whole program.
pub(crate) fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if let Some(socket) = shim_socket(&args) {
        return shim::enter(socket);
    }
    if matches!(&args[..], [_, word] if word == shim::RELAY_WORD) {
        return shim::relay(environment::proxies());
    }
    if let [_, word, store, path] = &args[..]
        && word == shim::IMPORT_WORD
    {
        return shim::import(store, path);
    }
    let form = form(&args);
    match parse(&args).and_then(|command| command.map_or(Ok(()), run)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(form),
    }
}

/// What the daemon starts VMMs through is no command of the user's, and must start fast.
fn shim_socket(args: &[OsString]) -> Option<i32> {
    match args {
        [_, word, socket] if word == shim::WORD => socket.to_str()?.parse().ok(),
        _ => None,
    }
}

fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Setup(args) => setup::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Mcp(command) => mcp::run(*command),
        Command::Image(command) => image::run(command),
        Command::Daemon(args) => daemon::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// The command, or none when help or version was asked for and shown.
fn parse(args: &[OsString]) -> Result<Option<Command>, CliError> {
    match Cli::try_parse_from(args) {
        Ok(cli) => Ok(Some(cli.command)),
        Err(error) if !error.use_stderr() => show(&error.render()).map(|()| None),
        Err(error) => Err(usage(&error, &command_of(args))),
    }
}

fn show(help: &StyledStr) -> Result<(), CliError> {
    match output::is_terminal() {
        true => output::text(&help.ansi().to_string()),
        false => output::text(&help.to_string()),
    }
}

/// Errors are JSON when the command was asked for JSON, even if the rest of the line is wrong.
fn form(args: &[OsString]) -> Form {
    let own = args.iter().map(OsString::as_os_str).take_while(|arg| *arg != OsStr::new("--"));
    match own.into_iter().any(|arg| arg == OsStr::new("--json")) {
        true => Form::Json,
        false => Form::Text,
    }
}

/// The parser's complaint about `command` in the form of every other error.
fn usage(error: &clap::Error, command: &str) -> CliError {
    let text = error.render().to_string();
    let message = match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a subcommand is missing".to_owned(),
        _ => complaint(&text),
    };
    let tips = text.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    tips.fold(CliError::usage(message), CliError::hint).hint(format!("{command} --help"))
}

/// The first paragraph on one line.
fn complaint(text: &str) -> String {
    let first = text.split("\n\n").next().unwrap_or_default();
    first.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `osvm mcp add` of `osvm mcp add --memory x`.
fn command_of(args: &[OsString]) -> String {
    let top = Cli::command();
    let mut command = &top;
    let mut name = command.get_name().to_owned();
    for word in args.iter().skip(1) {
        let Some(inner) = command.find_subcommand(word) else { break };
        name = format!("{name} {}", inner.get_name());
        command = inner;
    }
    name
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// Where the reference is kept, and how to write it anew.
    const REFERENCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md");
    const RENEW: &str = "OSVM_RENEW_DOCS=1 cargo test -p osvm reference";

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test's own switch, see RENEW")]
    fn the_reference_is_what_help_says() {
        let mut cli = Cli::command().term_width(100);
        cli.build();
        let mut reference = format!(
            "# Commands\n\nWhat `--help` says, command by command. Renew with `{RENEW}`.\n"
        );
        describe(&mut cli, "osvm", &mut reference);
        if std::env::var_os("OSVM_RENEW_DOCS").is_some() {
            std::fs::write(REFERENCE, &reference).unwrap();
        }
        let kept = std::fs::read_to_string(REFERENCE).unwrap_or_default();
        assert!(kept == reference, "docs/commands.md is not what --help says; renew it: {RENEW}");
    }

    fn describe(command: &mut clap::Command, name: &str, reference: &mut String) {
        let help = command.render_long_help();
        let help = help
            .to_string()
            .lines()
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect::<String>();
        write!(reference, "\n## `{name}`\n\n```text\n{}\n```\n", help.trim_end()).unwrap();
        for inner in command.get_subcommands_mut().filter(|inner| inner.get_name() != "help") {
            let name = format!("{name} {}", inner.get_name());
            describe(inner, &name, reference);
        }
    }

    #[test]
    fn the_parsers_complaints_look_like_every_other_error() {
        let complain = |line: &str| {
            let args: Vec<_> = line.split(' ').map(OsString::from).collect();
            format!("{:?}", parse(&args).unwrap_err())
        };
        let unknown = complain("osvm mcp list --jsn");
        assert!(unknown.contains("\"unexpected argument '--jsn' found\""), "{unknown}");
        assert!(unknown.contains("a similar argument exists: '--json'"), "{unknown}");
        assert!(unknown.contains("\"osvm mcp list --help\""), "{unknown}");
        let missing = complain("osvm mcp");
        assert!(
            missing.contains("a subcommand is missing") && missing.contains("\"osvm mcp --help\"")
        );
        let name = complain("osvm mcp show ../x");
        assert!(name.contains("invalid value '../x' for '<NAME>'"), "{name}");
        assert!(name.contains("\"osvm mcp show --help\""), "{name}");
    }

    #[test]
    fn json_is_looked_for_up_to_the_double_dash() {
        let form = |line: &str| form(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(form("osvm mcp lst --json"), Form::Json);
        assert_eq!(form("osvm mcp microvm exec a -- ls --json"), Form::Text);
    }
}
