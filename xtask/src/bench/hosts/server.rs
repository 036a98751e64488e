//! The server that the client knows: 64 bytes are sent back, or answered with a download.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};

/// Serves until the process ends.
pub(super) fn start(at: &str) -> Result<()> {
    let listener = TcpListener::bind(at).with_context(|| format!("listen on {at}"))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that hangs up is done.
            thread::spawn(move || drop(serve(stream)));
        }
    });
    Ok(())
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0; 64];
    loop {
        stream.read_exact(&mut request)?;
        if request[0] == b'd' {
            let piece = vec![0; 1 << 20];
            for _ in 0..32 {
                stream.write_all(&piece)?;
            }
        } else {
            stream.write_all(&request)?;
        }
    }
}
