//! What the fleet asks of whoever speaks MCP: whether an image may be started, and to prove that a server process
//! answers.
//!
//! The fleet knows no MCP. It starts the server, hands its pipes over, and calls the VM ready when
//! a conversation comes back.

use std::future::Future;
use std::time::Duration;

use osvm_image::Image;
use osvm_spec::Digest;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::plan::Plan;
use crate::state::Cause;

/// A server process's standard streams; standard error goes to a log and is not among them.
pub struct Pipes {
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
}

/// Why no conversation came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GreetError {
    Unanswered {
        /// What the server did instead of answering.
        message: String,
        timed_out: bool,
        /// The server ended at the usual greeting, and may understand the other one when started anew.
        try_other: bool,
    },
    /// It answered, and is not to be used.
    Unwelcome(Cause),
}

/// Which server is greeted, and how.
#[derive(Debug, Clone, Copy)]
pub struct Meeting<'a> {
    pub plan: &'a Plan,
    /// What its VM runs from.
    pub image: &'a Digest,
    pub greeting: Greeting,
    /// Longest that it may take.
    pub limit: Duration,
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

    /// Whether a VM may start from this image. Blocks.
    fn admit(&self, plan: &Plan, image: &Image) -> Result<(), Cause>;

    /// Speaks to a fresh server process until it has answered.
    fn greet(
        &self,
        pipes: Pipes,
        meeting: Meeting<'_>,
    ) -> impl Future<Output = Result<Self::Conversation, GreetError>> + Send;

    /// Goes on with a server process that answered an earlier daemon, from that daemon's note; or says why not.
    fn resume(&self, pipes: Pipes, note: &str) -> Result<Self::Conversation, String>;

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
