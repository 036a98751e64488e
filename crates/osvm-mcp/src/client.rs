//! A server as its client sees it: met by either era's handshake, then asked.

mod handshake;
mod lists;
mod tools;

use std::sync::Mutex;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::connection::{Connection, Deadline, Notification};
use crate::era::{self, Era};
use crate::error::McpError;
use crate::limits::Limits;
use crate::received::Received;
use crate::schemas::Schemas;
pub use handshake::ServerInfo;
pub use lists::Definition;
pub use tools::CallOutcome;

/// A server that answered its handshake. Requests may be made at once from several tasks; dropping
/// one cancels it, and dropping the client ends the server's input.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    info: ClientInfo,
    server: ServerInfo,
    limits: Limits,
    /// Of tools that it has listed.
    schemas: Mutex<Schemas>,
}

/// Who is calling, as servers are told.
#[derive(Debug, Clone, Serialize)]
pub struct ClientInfo {
    pub name: String,
    pub version: String,
}

impl Client {
    /// Meets a server of unknown era. `initialize` comes first, since many a server takes its
    /// first message for its era and is never again what it could have been; a server that
    /// refuses is tried as a modern one.
    ///
    /// Must be called on a tokio runtime, which runs the two halves of the connection.
    ///
    /// # Errors
    /// [`McpError::Refused`] if the server refused and ended, as those of the modern era alone may
    /// do: start it anew for [`Client::connect_modern`].
    pub async fn connect<R, W>(
        reader: R,
        writer: W,
        info: ClientInfo,
        limits: Limits,
    ) -> Result<Self, McpError>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Connection::open(reader, writer, &limits, 0);
        let server = handshake::initialize(&connection, &info, limits.handshake).await?;
        Ok(Self { connection, info, server, limits, schemas: Mutex::default() })
    }

    /// Meets a server known to be of the modern era.
    pub async fn connect_modern<R, W>(
        reader: R,
        writer: W,
        info: ClientInfo,
        limits: Limits,
    ) -> Result<Self, McpError>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Connection::open(reader, writer, &limits, 0);
        let server = handshake::discover(&connection, &info, limits.handshake).await?;
        Ok(Self { connection, info, server, limits, schemas: Mutex::default() })
    }

    /// Goes on with a server that has met an earlier client, from what it said of itself then.
    /// `last_id` is above every request id of that client's, whose late answers are dropped, as is
    /// the line that either side was writing when that client ended.
    pub fn resume<R, W>(
        reader: R,
        writer: W,
        info: ClientInfo,
        server: ServerInfo,
        limits: Limits,
        last_id: u64,
    ) -> Self
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let connection = Connection::open(reader, writer, &limits, last_id);
        connection.end_line();
        if server.era == Era::Modern {
            connection.stop_replying();
        }
        Self { connection, info, server, limits, schemas: Mutex::default() }
    }

    /// What the server said of itself.
    pub fn server(&self) -> &ServerInfo {
        &self.server
    }

    /// Sends any request and returns its result as the server spelled it. `params` is an object.
    pub async fn request(
        &self,
        method: &str,
        params: Option<&RawValue>,
        timeout: Duration,
    ) -> Result<Box<RawValue>, McpError> {
        self.ask(method, params, Deadline::after(timeout)).await
    }

    async fn ask(
        &self,
        method: &str,
        params: Option<&RawValue>,
        deadline: Deadline,
    ) -> Result<Box<RawValue>, McpError> {
        if self.server.era == Era::Legacy {
            return self.connection.call(method, params, deadline).await;
        }
        let params = era::with_meta(params, &self.info)
            .map_err(|error| McpError::Parameters(error.to_string()))?;
        self.connection.call(method, Some(&params), deadline).await
    }

    /// The server's notifications from now on, in place of an earlier subscriber. One that lags
    /// by more than `capacity` misses some; without one they cost nothing.
    pub fn subscribe(&self, capacity: usize) -> mpsc::Receiver<Notification> {
        self.connection.subscribe(capacity)
    }

    /// What the server has written so far.
    pub fn received(&self) -> Received {
        self.connection.received()
    }

    /// Whether the server still speaks.
    pub fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// Waits for the end of the server's output, and says why it ended.
    pub async fn closed(&self) -> McpError {
        self.connection.ended().await
    }

    /// The same without keeping the client: `None` when it was dropped before the server's output ended.
    pub fn end(&self) -> impl Future<Output = Option<McpError>> + Send + use<> {
        self.connection.end()
    }
}
