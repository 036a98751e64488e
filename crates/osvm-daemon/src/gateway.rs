//! What `osvm mcp gateway` is: servers over HTTP, each conversation a session of the daemon's.

mod connections;
mod oauth;
mod tls;

use std::collections::HashMap;
use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;

use osvm_mcp::OnBehalf;
use osvm_mcp::gateway::{Gateway, Naming, Opening, Recalling, Servers, Stream, Unavailable};
use osvm_spec::ServerName;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

pub use oauth::Issuers;
pub use osvm_mcp::gateway::{Access, Bounds, Tokens};
pub use tls::{Tls, TlsError};

use self::connections::Endpoint;
use crate::api::{ApiError, ErrorKind, RecallAnswer, RecallRequest, Recalled, RunRequest};
use crate::client::Client;

/// What the user has registered. Asked in no hurry.
pub trait Registry: Send + Sync + 'static {
    /// Servers that are enabled.
    fn names(&self) -> Result<Vec<ServerName>, ApiError>;

    /// What a server process is started with, and the daemon that starts it: another one, if that has ended. Its image may
    /// have to be made first.
    fn request(&self, name: &ServerName) -> Result<(Client, RunRequest), ApiError>;

    /// The same for several, without an image being made, or the user being asked for anything; of those alone that can be
    /// started so.
    fn requests(
        &self,
        names: &[ServerName],
    ) -> Result<(Client, Vec<(ServerName, RunRequest)>), ApiError>;

    /// Whether one process of a server may serve requests with several tokens. Asked for each request.
    fn is_shared(&self, name: &ServerName) -> bool;
}

/// Lists that are recalled at a time. Others wait, and no longer than the gateway has them wait.
const RECALLING: usize = 16;

/// Serves until `told_to_end`, and then what is open for a little longer. Without TLS, plain HTTP.
pub async fn serve(
    (listener, tls): (TcpListener, Option<Tls>),
    (access, bounds): (Access, Bounds),
    registry: Arc<dyn Registry>,
    told_to_end: impl Future<Output = ()>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let recalling = Arc::new(Semaphore::new(RECALLING));
    let gateway = Gateway::new(Sessions { registry, recalling }, access, bounds);
    connections::serve(Endpoint::new(listener, tls), gateway, told_to_end).await;
    Ok(())
}

struct Sessions {
    registry: Arc<dyn Registry>,
    /// For lists that are recalled at a time: what is asked of the registry for one can't be given up.
    recalling: Arc<Semaphore>,
}

impl Sessions {
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Registry) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let registry = Arc::clone(&self.registry);
        let asked = spawn_blocking(move || question(&*registry)).await;
        asked.map_err(|error| ApiError::new(ErrorKind::Failed, error.to_string()))?
    }

    async fn recalled(
        &self,
        lines: &[String],
        servers: Vec<(String, OnBehalf)>,
    ) -> Result<RecallAnswer, ApiError> {
        let lines = lines.iter().map(|line| serde_json::from_str(line)).collect::<Result<_, _>>();
        let lines = lines.map_err(|error| ApiError::failed(&error))?;
        let room = Arc::clone(&self.recalling).acquire_owned().await;
        let room = room.map_err(|error| ApiError::failed(&error))?;
        let wanted = move |registry: &dyn Registry| Ok((wanted(registry, servers)?, room));
        let ((client, servers), _room) = self.ask(wanted).await?;
        client.recall(&RecallRequest { lines, servers }).await
    }
}

fn wanted(
    registry: &dyn Registry,
    servers: Vec<(String, OnBehalf)>,
) -> Result<(Client, Vec<Recalled>), ApiError> {
    let servers: HashMap<ServerName, OnBehalf> =
        servers.into_iter().filter_map(|(name, whom)| Some((name.parse().ok()?, whom))).collect();
    let names: Vec<_> = servers.keys().cloned().collect();
    let (client, requests) = registry.requests(&names)?;
    let of = |(name, request): (ServerName, RunRequest)| {
        let on_behalf = servers.get(&name).cloned();
        Recalled { name, request: RunRequest { on_behalf, ..request } }
    };
    Ok((client, requests.into_iter().map(of).collect()))
}

impl Servers for Sessions {
    fn names(&self) -> Naming<'_> {
        Box::pin(async {
            let names = self.ask(Registry::names).await;
            let names = names.map_err(|error| error.message)?;
            Ok(names.iter().map(ToString::to_string).collect())
        })
    }

    fn is_shared(&self, name: &str) -> bool {
        name.parse().is_ok_and(|name| self.registry.is_shared(&name))
    }

    fn recall(&self, lines: Vec<String>, servers: Vec<(String, OnBehalf)>) -> Recalling<'_> {
        Box::pin(async move {
            let recalled = self.recalled(&lines, servers).await.map_err(|error| error.message)?;
            let text = |(name, answer): (ServerName, Box<RawValue>)| {
                (name.to_string(), answer.get().to_owned())
            };
            Ok(recalled.answers.into_iter().map(text).collect())
        })
    }

    fn open<'s>(&'s self, name: &'s str, whom: OnBehalf) -> Opening<'s> {
        Box::pin(async move {
            let name: ServerName =
                name.parse().map_err(|_| unknown(format!("no server is called {name:?}")))?;
            let asked = name.clone();
            let request = self.ask(move |registry| registry.request(&asked)).await;
            let (client, request) = request.map_err(|error| unavailable(&error))?;
            let request = RunRequest { on_behalf: Some(whom), ..request };
            let opened = client.run(&name, &request).await.map_err(|error| unavailable(&error))?;
            Ok(Box::new(opened) as Stream)
        })
    }
}

fn unknown(why: String) -> Unavailable {
    Unavailable::Unknown(why)
}

fn unavailable(error: &ApiError) -> Unavailable {
    let hints = error.hints.iter().map(|hint| format!("; hint: {hint}"));
    let why = [error.message.clone()].into_iter().chain(hints).collect();
    match error.kind {
        ErrorKind::NoSuch => Unavailable::Unknown(why),
        _ => Unavailable::Failed(why),
    }
}
