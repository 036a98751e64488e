//! `osvm mcp microvm exec`

use osvm_daemon::api::ExecRequest;
use osvm_daemon::client::Upgraded;
use osvm_daemon::stream::{ExecExit, ExecFrame, MAX_PAYLOAD};
use osvm_spec::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::error::{CliError, Kind};
use crate::{daemon, output};

/// Run a command inside a microVM, beside its server
///
/// Standard streams are passed on, and so is the exit status (128 and the number for a signal).
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  osvm mcp microvm exec my-server -- cat /proc/version")]
pub(crate) struct Args {
    /// Name of the server
    name: ServerName,
    /// User inside the VM: a name or a number [default: the server's]
    #[arg(long)]
    user: Option<String>,
    /// Program and arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    argv: Vec<String>,
}

pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let request = ExecRequest { argv: args.argv, user: args.user };
    let exit =
        daemon::with(async |client| converse(client.exec(&args.name, &request).await?).await)?;
    match status(&exit) {
        0 => Ok(()),
        status => Err(CliError::new(Kind::Exited(status), "the command has failed")),
    }
}

/// As a shell counts: a signal's number above 128.
fn status(exit: &ExecExit) -> u8 {
    let status = exit.code.or(exit.signal.map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(status).unwrap_or(1)
}

async fn converse(session: Upgraded) -> Result<ExecExit, CliError> {
    let (from_guest, to_guest) = tokio::io::split(session);
    tokio::select! {
        exit = output(from_guest) => exit,
        never = input(to_guest) => never,
    }
}

/// Passes standard input on until it ends. Never returns: the output is still to come.
async fn input<T>(mut to_guest: impl AsyncWrite + Unpin) -> T {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; MAX_PAYLOAD];
    while let Ok(count @ 1..) = stdin.read(&mut buffer).await {
        let frame = ExecFrame::Stdin(buffer[..count].to_vec());
        if frame.write(&mut to_guest).await.is_err() {
            break;
        }
    }
    // A command that has ended already needs no end of input.
    let _ = ExecFrame::Stdin(Vec::new()).write(&mut to_guest).await;
    std::future::pending().await
}

async fn output(mut from_guest: impl AsyncRead + Unpin) -> Result<ExecExit, CliError> {
    let (mut stdout, mut stderr) = (tokio::io::stdout(), tokio::io::stderr());
    loop {
        match ExecFrame::read(&mut from_guest).await {
            Ok(Some(ExecFrame::Stdout(bytes))) => show(&mut stdout, &bytes).await?,
            Ok(Some(ExecFrame::Stderr(bytes))) => show(&mut stderr, &bytes).await?,
            Ok(Some(ExecFrame::Exit(exit))) => return Ok(exit),
            Ok(Some(ExecFrame::Stdin(_)) | None) => return Err(lost("it ended early")),
            Err(error) => return Err(lost(&error.to_string())),
        }
    }
}

async fn show(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> Result<(), CliError> {
    stream.write_all(bytes).await.map_err(output::closed)?;
    stream.flush().await.map_err(output::closed)
}

fn lost(why: &str) -> CliError {
    CliError::new(Kind::Unavailable, format!("the session with the VM was lost: {why}"))
        .hint("osvm mcp microvm status")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_a_shells() {
        let exit = |code, signal| status(&ExecExit { code, signal, oom_killed: false });
        assert_eq!((exit(Some(0), None), exit(Some(3), None)), (0, 3));
        assert_eq!((exit(None, Some(9)), exit(None, None)), (137, 1));
    }
}
