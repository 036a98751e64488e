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

pub(super) async fn serve(
    (listener, tls): (TcpListener, Option<Tls>),
    gateway: Arc<Gateway>,
    told_to_end: impl Future<Output = ()>,
) {
    let service = TowerToHyperService::new(gateway.router());
    let (open, room) = (GracefulShutdown::new(), Arc::new(Semaphore::new(MOST)));
    // Closed once the gateway was told to end.
    let (serving, served) = watch::channel(());
    let accepting = async {
        loop {
            let place = Arc::clone(&room).acquire_owned().await;
            let Some(stream) = accept(&listener).await else { continue };
            let (service, tls, watcher) = (service.clone(), tls.clone(), open.watcher());
            let mut served = served.clone();
            tokio::spawn(async move {
                let _place = place;
                let Some(tls) = tls else { return talk(stream, service, watcher).await };
                // Who has not agreed on keys has asked for nothing that is worth waiting for.
                let agreed = tokio::select! {
                    agreed = tls.agree(stream) => agreed,
                    _ = served.changed() => None,
                };
                if let Some(stream) = agreed {
                    talk(stream, service, watcher).await;
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
    service: TowerToHyperService<Router>,
    watcher: Watcher,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .serve_connection(TokioIo::new(stream), service);
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
mod tests {
    use osvm_mcp::OnBehalf;
    use osvm_mcp::gateway::{Access, Bounds, Naming, Opening, Servers};
    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;

    struct Nobody;

    impl Servers for Nobody {
        fn open<'s>(&'s self, _: &'s str, _: OnBehalf) -> Opening<'s> {
            Box::pin(std::future::pending())
        }

        fn is_shared(&self, _: &str) -> bool {
            false
        }

        fn names(&self) -> Naming<'_> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_agree_on_keys_keeps_nobody_from_ending() {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let tls = Tls::of(cert.pem().as_bytes(), signing_key.serialize_pem().as_bytes()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = Gateway::new(Nobody, Access::default(), Bounds::default());
        let (end, told) = oneshot::channel();
        let serving = tokio::spawn(serve((listener, Some(tls)), gateway, async {
            told.await.unwrap();
        }));
        let mut silent = TcpStream::connect(address).await.unwrap();
        // Accepted in the order in which they came: the one before was, when this one is talked to.
        let mut plain = TcpStream::connect(address).await.unwrap();
        plain.write_all(b"this is no TLS\r\n").await.unwrap();
        let _ = plain.read_to_end(&mut Vec::new()).await;
        end.send(()).unwrap();
        let ended = tokio::time::timeout(DRAIN / 2, serving).await;
        ended.expect("nobody is waited for").unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap_or_default(), 0);
    }
}
