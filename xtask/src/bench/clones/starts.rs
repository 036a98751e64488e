//! How long a server takes from its start to its first reply, where this program runs: prints nanoseconds, one line for each
//! start. The first is not counted: after it the guest has run the server before. A program of its own, which the benchmark
//! compiles: it needs nothing but the standard library.
//!
//! ```text
//! starts COUNT PROGRAM [ARGUMENT...]
//! ```
#![expect(clippy::disallowed_methods, reason = "it starts servers inside a guest")]

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const HELLO: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"bench","version":"0"}}}"#;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [count, program, rest @ ..] = &arguments[..] else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let count: usize = count.parse().map_err(io::Error::other)?;
    let mut times = String::new();
    for number in 0..=count {
        let took = start(Command::new(program).args(rest))?;
        if number > 0 {
            times += &format!("{}\n", took.as_nanos());
        }
    }
    io::stdout().write_all(times.as_bytes())
}

fn start(server: &mut Command) -> io::Result<Duration> {
    let begin = Instant::now();
    let mut server = server.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (stdin, stdout) = (server.stdin.take(), server.stdout.take());
    let (mut stdin, stdout) = stdin.zip(stdout).ok_or(io::ErrorKind::BrokenPipe)?;
    writeln!(stdin, "{HELLO}")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let took = begin.elapsed();
    server.kill()?;
    server.wait()?;
    if line.contains("\"result\"") { Ok(took) } else { Err(io::Error::other(line)) }
}
