//! Connections of clients: so many at a time, each with little patience for a head that does not arrive.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use osvm_mcp::gateway::Gateway;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::tls::Tls;

/// Most connections at a time. Further ones wait to be accepted.
const MOST: usize = 4096;
/// How long a request's head may take to arrive.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long open requests may take once the gateway was told to end.
const DRAIN: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted, for want of descriptors as a rule.
const PAUSE: Duration = Duration::from_millis(100);

/// Where clients come to.
pub(super) struct Endpoint {
    listener: TcpListener,
    tls: Option<Tls>,
    head_within: Duration,
}

impl Endpoint {
    /// Without TLS, plain HTTP.
    pub(super) fn new(listener: TcpListener, tls: Option<Tls>) -> Self {
        Self { listener, tls, head_within: HEAD_WITHIN }
    }
}

pub(super) async fn serve(
    endpoint: Endpoint,
    gateway: Arc<Gateway>,
    told_to_end: impl Future<Output = ()>,
) {
    let Endpoint { listener, tls, head_within } = endpoint;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head_within);
    let service = TowerToHyperService::new(gateway.router());
    let (open, room) = (GracefulShutdown::new(), Arc::new(Semaphore::new(MOST)));
    // Closed once the gateway was told to end.
    let (serving, served) = watch::channel(());
    let accepting = async {
        loop {
            let place = Arc::clone(&room).acquire_owned().await;
            let Some(stream) = accept(&listener).await else { continue };
            let (http, service, watcher) = (http.clone(), service.clone(), open.watcher());
            let (tls, mut served) = (tls.clone(), served.clone());
            tokio::spawn(async move {
                let _place = place;
                let Some(tls) = tls else { return talk(stream, &http, service, watcher).await };
                // Who has not agreed on keys has asked for nothing that is worth waiting for.
                let agreed = tokio::select! {
                    agreed = tls.agree(stream) => agreed,
                    _ = served.changed() => None,
                };
                if let Some(stream) = agreed {
                    talk(stream, &http, service, watcher).await;
                }
            });
        }
    };
    tokio::select! {
        () = told_to_end => {}
        () = accepting => {}
    }
    drop((listener, serving));
    gateway.drain();
    let _ = tokio::time::timeout(DRAIN, open.shutdown()).await;
}

/// Until the client has gone, or the gateway was told to end.
async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http: &http1::Builder,
    service: TowerToHyperService<Router>,
    watcher: Watcher,
) {
    let connection = http.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection broke");
    }
}

async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // An answer in several pieces is not to wait for the acknowledgement of the first.
            let _ = stream.set_nodelay(true);
            Some(stream)
        }
        Err(error) => {
            tracing::warn!(%error, "failed to accept a connection");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

#[cfg(test)]
mod tests;
