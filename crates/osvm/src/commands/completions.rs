//! `osvm completions`

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::CliError;
use crate::output;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm completions bash > ~/.local/share/bash-completion/completions/osvm
  osvm completions zsh > \"${fpath[1]}/_osvm\"")]
pub(crate) struct Args {
    /// Which shell
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "osvm", &mut script);
    output::text(&String::from_utf8_lossy(&script))
}
