//! Speaks MCP between clients and byte streams.
//!
//! A server is hostile until proven otherwise: this room is handed two streams and some
//! [`Limits`], and never sees a VM. From the bottom up:
//!
//! - [`lines`]: bytes to lines, bounded.
//! - [`envelope`]: a line as a JSON-RPC message, of which only the routing fields are looked at.
//! - [`Ledger`]: what is open between a client that osvm does not speak for and its server.
//! - [`Bridge`]: what a client of one era and a server of the other say to each other.
//! - [`Guard`]: which tools may be called in such a conversation, and within which limits.
//! - [`Manifest`]: what a server has said of itself, said again without it.
//! - `connection`: requests in flight over one pair of streams.
//! - [`gateway`]: servers for clients that speak HTTP.
//! - [`Client`]: the handshake of either [`Era`], and what one asks a server for.
#![forbid(unsafe_code)]

mod bridge;
mod client;
mod connection;
pub mod envelope;
mod era;
mod error;
pub mod gateway;
mod guard;
mod ledger;
mod limits;
pub mod lines;
mod manifest;
mod protocol;
mod rate;
mod received;
mod schemas;

pub use bridge::{Bridge, Step, Terms};
pub use client::{CallOutcome, Client, ClientInfo, Definition, ServerInfo};
pub use connection::Notification;
pub use era::Era;
pub use error::{McpError, RpcError};
pub use guard::{
    Apart, Body, CallRates, ClientName, Ended, Guard, Mark, OnBehalf, Outcome, Passage, Rules,
    ToolSet, Unmade, too_long,
};
pub use ledger::{Fate, Ledger};
pub use limits::Limits;
pub use manifest::{Discovery, Heard, Introduction, Manifest, News};
pub use received::Received;
