//! `osvm daemon`

use std::error::Error;
use std::io;

use osvm_daemon::api::Info;
use osvm_daemon::client::Client;
use osvm_daemon::{Options, serve};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tracing_subscriber::EnvFilter;

use crate::error::CliError;
use crate::{daemon, environment, output};

/// Start the daemon, or be it
///
/// Commands that need the daemon start it by themselves. MicroVMs outlive it: one started later
/// takes them over.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Be the daemon and log to standard error; for service managers
    #[arg(long)]
    foreground: bool,
    /// End the daemon; microVMs go on running
    #[arg(long, conflicts_with = "foreground")]
    stop: bool,
    /// Print the daemon's process and folders as JSON
    #[arg(long, conflicts_with_all = ["foreground", "stop"])]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), CliError> {
    if args.foreground {
        return be_daemon();
    }
    if args.stop {
        return stop();
    }
    let info = daemon::with(async |client| Ok(client.info().await?))?;
    match args.json {
        true => output::json(&info),
        false => output::line(format_args!("{}; home {}", process(&info), info.home.display())),
    }
}

fn be_daemon() -> Result<(), CliError> {
    let filter = EnvFilter::try_new(environment::log_filter())
        .map_err(|error| CliError::usage(format!("variable OSVM_LOG: {error}")))?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let options = Options {
        home: environment::home()?,
        host: environment::host(),
        idle: environment::idle()?,
        quiet: environment::quiet()?,
    };
    daemon::run(async { serve(options).await.map_err(|error| CliError::failed(told(&error))) })
}

/// An error with everything that led to it.
fn told(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(format!("failed to {error}"), |told, cause| format!("{told}: {cause}"))
}

fn stop() -> Result<(), CliError> {
    let home = environment::home()?;
    let info = daemon::run(async {
        match Client::find(&home).await {
            Some(client) => Ok(Some(client.info().await?)),
            None => Ok(None),
        }
    })?;
    let Some(info) = info else { return output::line("no daemon is running") };
    end(info.pid)
        .map_err(|error| CliError::failed(format!("can't end {}: {error}", process(&info))))?;
    output::line(format_args!("ended {}", process(&info)))
}

/// Asks the process to end and waits until it has.
fn end(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_send_signal(&process, Signal::TERM)?;
    retry_on_intr(|| poll(&mut [PollFd::new(&process, PollFlags::IN)], None))?;
    Ok(())
}

fn process(info: &Info) -> String {
    format!("daemon {} (process {})", info.version, info.pid)
}
