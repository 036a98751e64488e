//! A door for the fuzzing crate to what reads a guest's bytes, and those of servers. No part of the interface.

use std::time::Duration;

use osvm_spec::Access;
use osvm_wire::grant::HostRequest;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::folders::Folder;
use crate::folders::lent::Lent;
use crate::hosts::chunked::Chunked;
use crate::hosts::{hello, relay, web};

/// The first frame of a guest's stream.
pub async fn request(mut stream: impl AsyncRead + Unpin) -> Option<HostRequest> {
    relay::read_request(&mut stream).await.ok()
}

/// A TLS hello for `granted`, to be passed on.
pub async fn hello(mut stream: impl AsyncRead + Unpin, granted: &str) -> Option<Vec<u8>> {
    hello::read(&mut stream, Some(granted)).await.ok()
}

/// HTTP between a guest and the server of `granted`.
pub async fn web<G, S>(guest: G, server: S, granted: &str) -> Result<(), String>
where
    G: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limit = Duration::from_secs(10);
    web::carry(guest, server, granted, limit).await.map_err(|error| error.to_string())
}

/// A guest's stream as a connection.
pub fn chunked<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> impl AsyncRead + AsyncWrite {
    Chunked::new(stream)
}

/// A folder that is lent to whoever asks.
pub struct Share(Lent);

impl Share {
    pub fn new(folder: Folder, access: Access) -> Self {
        Self(Lent::new(folder, access).expect("the folder is there"))
    }

    /// What a message is answered, if anything.
    pub fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.0.answer(message).ok()?
    }
}
