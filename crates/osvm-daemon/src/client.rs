//! The command's end of the API: finds the daemon or starts it, and asks.

mod connection;
mod record;
mod start;

use osvm_spec::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::api::{
    ApiError, CallAnswer, CallRequest, ErrorKind, ExecRequest, Info, LaunchEvent, LaunchRequest,
    ListAnswer, ListRequest, LogsQuery, LookRequest, ROOT, RecallAnswer, RecallRequest, RunRequest,
    VmStatus, WorkRequest,
};
use crate::home::Home;

pub use connection::{Body, Upgraded};
pub use record::Recording;
pub use start::Starter;

/// A daemon that answers.
#[derive(Debug, Clone)]
pub struct Client {
    home: Home,
}

type Result<T> = std::result::Result<T, ApiError>;

impl Client {
    /// The running daemon of this home, if there is one.
    pub async fn find(home: &Home) -> Option<Self> {
        connection::open(home).await.ok()?;
        Some(Self { home: home.clone() })
    }

    /// The running daemon of this home, started first where there is none.
    pub async fn find_or_start(home: &Home, starter: &Starter) -> Result<Self> {
        match Self::find(home).await {
            Some(client) => Ok(client),
            None => {
                start::start(home, starter).await?;
                Ok(Self { home: home.clone() })
            }
        }
    }

    pub async fn info(&self) -> Result<Info> {
        self.ask("GET", "/info", &()).await
    }

    /// Starts a server's VM; `on_state` hears every state it enters, and its id. Dropping this future cancels
    /// the launch.
    pub async fn launch(
        &self,
        request: &LaunchRequest,
        mut on_state: impl FnMut(&str, Option<&str>),
    ) -> Result<VmStatus> {
        let body = connection::request(&self.home, "POST", &path("/vms"), request).await?;
        let mut lines = BufReader::new(body).lines();
        while let Some(line) = lines.next_line().await.map_err(|error| broken(&error))? {
            match serde_json::from_str(&line).map_err(|error| unreadable(&error))? {
                LaunchEvent::State { state, id } => on_state(&state, id.as_deref()),
                LaunchEvent::Ready { vm } => return Ok(*vm),
                LaunchEvent::Failed { error } => return Err(error),
                // Only recorded ones have it.
                LaunchEvent::Recorded { .. } => {}
            }
        }
        Err(daemon_gone())
    }

    pub async fn vms(&self) -> Result<Vec<VmStatus>> {
        self.ask("GET", "/vms", &()).await
    }

    pub async fn vm(&self, name: &ServerName) -> Result<VmStatus> {
        self.ask("GET", &format!("/vms/{name}"), &()).await
    }

    /// Ends a VM and answers when nothing of it is left.
    pub async fn stop(&self, name: &ServerName) -> Result<VmStatus> {
        self.ask("DELETE", &format!("/vms/{name}"), &()).await
    }

    /// The same, if the VM of that name has that id; otherwise there is no such VM.
    pub async fn stop_only(&self, name: &ServerName, id: &str) -> Result<VmStatus> {
        self.ask("DELETE", &format!("/vms/{name}?id={id}"), &()).await
    }

    /// Sends a VM to disk as it is, until somebody wants something of it; answers when it is there.
    pub async fn suspend(&self, name: &ServerName) -> Result<VmStatus> {
        self.ask("POST", &format!("/vms/{name}/suspend"), &()).await
    }

    pub async fn stop_all(&self) -> Result<Vec<VmStatus>> {
        self.ask("DELETE", "/vms", &()).await
    }

    /// The log's bytes; with `follow`, as they are written, until the VM ends.
    pub async fn logs(&self, name: &ServerName, query: &LogsQuery) -> Result<Body> {
        let source = serde_json::to_string(&query.source).map_err(|error| unreadable(&error))?;
        let source = source.trim_matches('"');
        let target = format!("/vms/{name}/logs?source={source}&follow={}", query.follow);
        connection::request(&self.home, "GET", &path(&target), &()).await
    }

    pub async fn call(&self, name: &ServerName, request: &CallRequest) -> Result<CallAnswer> {
        self.ask("POST", &format!("/servers/{name}/call"), request).await
    }

    pub async fn list(&self, name: &ServerName, request: &ListRequest) -> Result<ListAnswer> {
        self.ask("POST", &format!("/servers/{name}/list"), request).await
    }

    pub async fn look(&self, name: &ServerName, request: &LookRequest) -> Result<ListAnswer> {
        self.ask("POST", &format!("/servers/{name}/look"), request).await
    }

    pub async fn recall(&self, request: &RecallRequest) -> Result<RecallAnswer> {
        self.ask("POST", "/recall", request).await
    }

    /// A session of the caller's own with the server: raw bytes in both directions.
    pub async fn run(&self, name: &ServerName, request: &RunRequest) -> Result<Upgraded> {
        connection::upgrade(&self.home, &path(&format!("/servers/{name}/run")), request).await
    }

    /// A command beside the server, in [`crate::stream::ExecFrame`]s.
    pub async fn exec(&self, name: &ServerName, request: &ExecRequest) -> Result<Upgraded> {
        connection::upgrade(&self.home, &path(&format!("/vms/{name}/exec")), request).await
    }

    /// A command in a VM of its own, in the same frames.
    pub async fn work(&self, request: &WorkRequest) -> Result<Upgraded> {
        connection::upgrade(&self.home, &path("/work"), request).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        target: &str,
        request: &impl Serialize,
    ) -> Result<T> {
        let mut body = connection::request(&self.home, method, &path(target), request).await?;
        let mut bytes = Vec::new();
        body.read_to_end(&mut bytes).await.map_err(|error| broken(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))
    }
}

fn path(target: &str) -> String {
    format!("{ROOT}{target}")
}

fn failed(message: String, hint: &str) -> ApiError {
    ApiError { kind: ErrorKind::Failed, message, hints: vec![hint.to_owned()] }
}

fn broken(error: &std::io::Error) -> ApiError {
    failed(format!("the daemon stopped answering: {error}"), STATUS_HINT)
}

fn daemon_gone() -> ApiError {
    failed("the daemon ended before it answered".to_owned(), STATUS_HINT)
}

fn unreadable(error: &serde_json::Error) -> ApiError {
    failed(
        format!("the daemon's answer can't be read: {error}"),
        "the daemon may be of another version; `osvm daemon --stop` ends it",
    )
}

const STATUS_HINT: &str = "osvm mcp microvm status";
