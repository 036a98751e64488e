//! The built-in demo: a small MCP server over stdio, for both eras of the protocol. Started as
//! `osvm-demo hostile` it is another server: the one that tries to get out of its VM.
//!
//! It runs inside the guest, where every instruction may be emulated, so it builds no schemas and
//! reads no files before a request asks for them, and needs no threads while its standard streams
//! are pipes that it may open anew.
#![forbid(unsafe_code)]

mod hostile;
mod server;
mod system;
mod tools;

use std::process::ExitCode;

use rmcp::transport::async_rw::AsyncRwTransport;
use rmcp::transport::io::stdio_pipes;
use rmcp::{ServerHandler, ServiceExt};

/// Longest message taken, in bytes. rmcp's own limit is 16 MiB and drops a longer line without an
/// answer; osvm's client allows 64 MiB, so its server does too.
const MAX_LINE: usize = 64 << 20;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("hostile") => run(hostile::Hostile),
        Some("accomplice") => hostile::accomplice(&arguments.next().unwrap_or_default()),
        _ => run(server::Demo::default()),
    }
}

fn run(server: impl ServerHandler) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(server)),
        Err(error) => failed(&error),
    }
}

/// Answers until standard input ends.
async fn serve(server: impl ServerHandler) -> ExitCode {
    let (input, output) = stdio_pipes();
    let transport = AsyncRwTransport::new_server(input, output).with_max_line_length(MAX_LINE);
    let running = match server.serve(transport).await {
        Ok(running) => running,
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return ExitCode::SUCCESS,
        Err(error) => return failed(&error),
    };
    match running.waiting().await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

#[expect(clippy::print_stderr, reason = "stderr is where an MCP server logs")]
fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("osvm-demo: {error}");
    ExitCode::FAILURE
}
