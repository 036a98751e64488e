//! The lab's ports on this side: sockets that QEMU connects to, copied as the bytes come.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

/// One port; the thread ends when the lab has hung up.
pub(super) struct Port<W> {
    pub(super) socket: PathBuf,
    copy: JoinHandle<io::Result<W>>,
}

impl<W: Write + Send + 'static> Port<W> {
    /// Listens at `folder/name` and copies to `to` what comes.
    pub(super) fn listen(folder: &Path, name: &str, to: W) -> Result<Self> {
        let socket = folder.join(name);
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("listen at {}", socket.display()))?;
        Ok(Self { socket, copy: thread::spawn(move || copy(&listener, to)) })
    }

    /// What was written to, once everything is there. A QEMU that has ended without connecting is
    /// replaced by a connection that says nothing.
    pub(super) fn finish(self) -> Result<W> {
        drop(UnixStream::connect(&self.socket));
        let copied = self.copy.join().expect("copying does not panic");
        copied.with_context(|| format!("copy from {}", self.socket.display()))
    }
}

fn copy<W: Write>(listener: &UnixListener, mut to: W) -> io::Result<W> {
    let (mut from, _) = listener.accept()?;
    let mut buffer = [0; 16 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(to),
            count => to.write_all(&buffer[..count]).and_then(|()| to.flush())?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_comes_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let port = Port::listen(folder.path(), "port", Vec::new()).unwrap();
        let mut peer = UnixStream::connect(&port.socket).unwrap();
        peer.write_all(&[7; 100_000]).unwrap();
        drop(peer);
        assert_eq!(port.finish().unwrap(), vec![7; 100_000]);
    }

    #[test]
    fn a_peer_that_never_came_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let port = Port::listen(folder.path(), "port", Vec::new()).unwrap();
        assert_eq!(port.finish().unwrap(), Vec::<u8>::new());
    }
}
