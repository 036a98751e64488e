//! What the fleet asks of whoever speaks MCP: to prove that a server process answers.
//!
//! The fleet knows no MCP. It starts the server, hands its pipes over, and calls the VM ready when
//! a conversation comes back.

use std::future::Future;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// A server process's standard streams; standard error goes to a log and is not among them.
pub struct Pipes {
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
}

/// Why no conversation came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreetError {
    /// What the server did instead of answering.
    pub message: String,
    pub timed_out: bool,
    /// The server ended at the usual greeting, and may understand the other one when started anew.
    pub try_other: bool,
}

/// How a fresh server process is spoken to first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    Usual,
    /// For a server that ended at the usual one.
    Other,
}

/// Makes conversations out of pipes.
pub trait Greeter: Send + Sync + 'static {
    type Conversation: Send + Sync + 'static;

    /// Speaks to a fresh server process until it has answered, at most for `limit`.
    fn greet(
        &self,
        pipes: Pipes,
        greeting: Greeting,
        limit: Duration,
    ) -> impl Future<Output = Result<Self::Conversation, GreetError>> + Send;

    /// Goes on with a server process that answered an earlier daemon, from that daemon's note.
    fn resume(&self, pipes: Pipes, note: &str) -> Result<Self::Conversation, GreetError>;

    /// What [`Self::resume`] must know of a conversation.
    fn note(&self, conversation: &Self::Conversation) -> String;

    /// Whether the server process still listens.
    fn is_open(&self, conversation: &Self::Conversation) -> bool;

    /// Waits until the server has ended the conversation, or has been given up, and says why; `None`
    /// when it was dropped by us. Does not keep the conversation.
    fn ended(
        &self,
        conversation: &Self::Conversation,
    ) -> impl Future<Output = Option<String>> + Send + 'static;
}
