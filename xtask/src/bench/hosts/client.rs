//! The client whose times count, on the host and in a guest: prints nanoseconds, one line for each request. A program
//! of its own, which the benchmark compiles: it needs nothing but the standard library.
//!
//! ```text
//! client kept|new|download ADDRESS COUNT
//! client absent PATH COUNT                  looks for what is not there
//! ```

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [what, at, count] = arguments[..] else { return Err(io::ErrorKind::InvalidInput.into()) };
    let count = count.parse().map_err(io::Error::other)?;
    let times = match what {
        "kept" | "download" => {
            let mut kept = connect(at)?;
            let (request, length) = if what == "kept" { (b'e', 64) } else { (b'd', 32 << 20) };
            timed(count, || ask(&mut kept, request, length))
        }
        "new" => timed(count, || ask(&mut connect(at)?, b'e', 64)),
        _ => timed(count, || match std::fs::symlink_metadata(at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            _ => Err(io::ErrorKind::AlreadyExists.into()),
        }),
    }?;
    io::stdout().write_all(times.as_bytes())
}

fn timed(count: u32, mut work: impl FnMut() -> io::Result<()>) -> io::Result<String> {
    let mut times = String::new();
    for _ in 0..count {
        let start = Instant::now();
        work()?;
        times += &format!("{}\n", start.elapsed().as_nanos());
    }
    Ok(times)
}

fn connect(at: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request, and an answer of that length.
fn ask(stream: &mut TcpStream, what: u8, length: u64) -> io::Result<()> {
    stream.write_all(&[what; 64])?;
    let read = io::copy(&mut stream.take(length), &mut io::sink())?;
    if read == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
