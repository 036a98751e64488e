//! The way from a command to the daemon, and how Ctrl-C gets in between.

use std::future::Future;

use osvm_daemon::client::{Client, Starter};
use tokio::runtime::{Builder, Runtime};

use crate::environment;
use crate::error::{CliError, Kind};

/// Does some work with the daemon, which is started when it does not run. Ctrl-C drops the work.
pub(crate) fn with<T>(
    work: impl AsyncFnOnce(Client) -> Result<T, CliError>,
) -> Result<T, CliError> {
    run(async {
        let client = connect().await?;
        unless_interrupted(work(client)).await
    })
}

/// Runs to the end; what still reads standard input then does not hold up the program.
pub(crate) fn run<T>(work: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = runtime()?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}

fn runtime() -> Result<Runtime, CliError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("can't start the runtime: {error}")))
}

pub(crate) async fn connect() -> Result<Client, CliError> {
    let executable = std::env::current_exe()
        .map_err(|error| CliError::failed(format!("can't find the osvm executable: {error}")))?;
    let starter = Starter { executable, environment: environment::of_daemon() };
    Ok(Client::find_or_start(&environment::home()?, &starter).await?)
}

/// The work's result, or an error that ends the program as Ctrl-C does; the work is then dropped.
pub(crate) async fn unless_interrupted<T>(
    work: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    tokio::select! {
        result = work => result,
        () = interrupted() => Err(CliError::new(Kind::Interrupted, "interrupted")),
    }
}

/// Waits for Ctrl-C; for ever where it can't be heard.
pub(crate) async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits for SIGTERM, which this then no longer ends the program; for ever where it can't be heard.
pub(crate) async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut heard) => drop(heard.recv().await),
        Err(_) => std::future::pending().await,
    }
}

/// Waits for Ctrl-C or SIGTERM, neither of which ends the program from this call on.
pub(crate) fn told_to_end() -> Result<impl Future<Output = ()>, CliError> {
    use tokio::signal::unix::{SignalKind, signal};
    let hear = |kind| {
        signal(kind).map_err(|error| CliError::failed(format!("can't hear signals: {error}")))
    };
    let (mut interrupt, mut terminate) =
        (hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
