//! `osvm mcp microvm logs`

use clap::ValueEnum;
use osvm_daemon::api::{LogSource, LogsQuery};
use osvm_spec::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::CliError;
use crate::{daemon, output};

/// Print a microVM's log, or the last one's when none runs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  osvm mcp microvm logs my-server
  osvm mcp microvm logs my-server --source console -f")]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
    /// Go on printing until the VM ends
    #[arg(long, short)]
    follow: bool,
    /// Whose words
    #[arg(long, value_enum, default_value_t = Source::Server)]
    source: Source,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Source {
    /// What the server wrote to standard error
    Server,
    /// The kernel and the agent
    Console,
    /// The VMM
    Vmm,
    /// What happened to the VM
    Agent,
    /// The hosts it asked for, and whether it might
    Egress,
}

impl From<Source> for LogSource {
    fn from(source: Source) -> Self {
        match source {
            Source::Server => Self::Server,
            Source::Console => Self::Console,
            Source::Vmm => Self::Vmm,
            Source::Agent => Self::Agent,
            Source::Egress => Self::Egress,
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    let query = LogsQuery { source: args.source.into(), follow: args.follow };
    daemon::with(async |client| print(client.logs(&args.name, &query).await?).await)
}

/// A terminal gets the log's lines without the powers a guest may have put into them.
async fn print(mut log: impl AsyncReadExt + Unpin) -> Result<(), CliError> {
    let mut stdout = tokio::io::stdout();
    let terminal = output::is_terminal();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = log.read(&mut buffer).await.map_err(|error| lost(&error))?;
        if count == 0 {
            return Ok(());
        }
        match terminal {
            true => stdout.write_all(shown(&buffer[..count]).as_bytes()).await,
            false => stdout.write_all(&buffer[..count]).await,
        }
        .map_err(output::closed)?;
        stdout.flush().await.map_err(output::closed)?;
    }
}

/// A serial console ends its lines with a carriage return, too.
fn shown(bytes: &[u8]) -> String {
    output::safe(&String::from_utf8_lossy(bytes).replace("\r\n", "\n"))
}

fn lost(error: &std::io::Error) -> CliError {
    CliError::failed(format!("can't read the log any further: {error}"))
}
