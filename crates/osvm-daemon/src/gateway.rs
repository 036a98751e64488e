//! What `osvm mcp gateway` is: servers over HTTP, each conversation a session of the daemon's.

mod connections;

use std::future::Future;
use std::net::TcpListener;
use std::sync::Arc;

use osvm_mcp::gateway::{Gateway, Opening, Servers, Stream, Unavailable};
use osvm_spec::ServerName;

pub use osvm_mcp::gateway::{Access, Bounds};

use crate::api::{ApiError, ErrorKind, RunRequest};
use crate::client::Client;

/// What a server process is started with. Asked for each of them, and in no hurry: an image may have to be made.
pub type Prepare = dyn Fn(&ServerName) -> Result<RunRequest, ApiError> + Send + Sync;

/// Serves until `told_to_end`, and then what is open for a little longer.
pub async fn serve(
    listener: TcpListener,
    (access, bounds): (Access, Bounds),
    client: Client,
    prepare: Arc<Prepare>,
    told_to_end: impl Future<Output = ()>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let gateway = Gateway::new(Sessions { client, prepare }, access, bounds);
    connections::serve(listener, gateway, told_to_end).await;
    Ok(())
}

struct Sessions {
    client: Client,
    prepare: Arc<Prepare>,
}

impl Servers for Sessions {
    fn open<'s>(&'s self, name: &'s str) -> Opening<'s> {
        Box::pin(async move {
            let name: ServerName =
                name.parse().map_err(|_| unknown(format!("no server is called {name:?}")))?;
            let (prepare, prepared) = (Arc::clone(&self.prepare), name.clone());
            let request = tokio::task::spawn_blocking(move || prepare(&prepared)).await;
            let request = request.map_err(|error| Unavailable::Failed(error.to_string()))?;
            let request = request.map_err(|error| unavailable(&error))?;
            let opened =
                self.client.run(&name, &request).await.map_err(|error| unavailable(&error))?;
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
