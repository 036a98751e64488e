//! How much of a server's output is read, kept and waited for.

use std::time::Duration;

/// Bounds on one connection. A server that exceeds one fails by itself; no other connection
/// notices.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest line, in bytes. A longer one ends the connection, since nobody can tell which
    /// request it answers. Default 64 MiB: a 48 MB file in base64, four times what the usual SDKs
    /// take, and a quarter of a default VM's memory.
    pub line_bytes: usize,
    /// Requests in flight. Further ones wait for a place, within their own time. Default 256.
    pub open_requests: usize,
    /// Lines before the server's first message that are no messages. More end the connection:
    /// that program speaks no MCP. Default 10,000.
    pub garbage_lines: u64,
    /// Lines a second that answer no request (garbage, notifications, requests by the server).
    /// When they come faster, reading pauses and the server blocks on its output. Default 10,000.
    pub unasked_lines_per_second: u32,
    /// Tools, resources or prompts in one list, each of its pages counted as one more. All pages
    /// together are held to `line_bytes`, too. Default 10,000.
    pub list_items: usize,
    /// Time for each answer of the handshake. Default 60 s: a Node server under emulation needs 10.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes: 64 << 20,
            open_requests: 256,
            garbage_lines: 10_000,
            unasked_lines_per_second: 10_000,
            list_items: 10_000,
            handshake: Duration::from_secs(60),
        }
    }
}
