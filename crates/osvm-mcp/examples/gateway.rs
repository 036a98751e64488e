//! The gateway with host processes behind it, for `cargo xtask bench --gateway`: what it costs by itself, without VMs.
//! Nothing that is not trusted may be run so. Arguments: the address to listen on, and the server's command.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a program for measurements")]

use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};

use axum::serve::ListenerExt;
use osvm_mcp::OnBehalf;
use osvm_mcp::gateway::{Access, Bounds, Gateway, Naming, Opening, Servers, Stream, Unavailable};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

struct Processes(Vec<String>);

/// Ends with its streams.
struct Process {
    stdin: ChildStdin,
    stdout: ChildStdout,
    _child: Child,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_default();
    let servers = Processes(arguments.collect());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let gateway = Gateway::new(servers, Access::default(), Bounds::default());
    axum::serve(listener, gateway.router()).await
}

impl Servers for Processes {
    fn names(&self) -> Naming<'_> {
        Box::pin(async { Ok(vec!["server".to_owned()]) })
    }

    fn is_shared(&self, _: &str) -> bool {
        false
    }

    fn open<'s>(&'s self, _: &'s str, _: OnBehalf) -> Opening<'s> {
        Box::pin(async {
            let failed = |error: &dyn std::fmt::Display| Unavailable::Failed(error.to_string());
            let (program, arguments) = self.0.split_first().ok_or_else(|| failed(&"no command"))?;
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
            let mut child = command.spawn().map_err(|error| failed(&error))?;
            let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
            let (Some(stdin), Some(stdout)) = (stdin, stdout) else {
                return Err(failed(&"its streams are missing"));
            };
            Ok(Box::new(Process { stdin, stdout, _child: child }) as Stream)
        })
    }
}

impl AsyncRead for Process {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stdout).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Process {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stdin).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stdin).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stdin).poll_shutdown(cx)
    }
}
