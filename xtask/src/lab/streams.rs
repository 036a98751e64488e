//! The lab's ports on this side: sockets that QEMU connects to.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};

/// One port; the thread ends when the lab has hung up.
pub(super) struct Port<T> {
    socket: PathBuf,
    talk: JoinHandle<io::Result<T>>,
}

impl<T: Send + 'static> Port<T> {
    /// Listens at `folder/name` and talks with who comes.
    pub(super) fn listen(
        folder: &Path,
        name: &str,
        talk: impl FnOnce(UnixStream) -> io::Result<T> + Send + 'static,
    ) -> Result<Self> {
        let socket = folder.join(name);
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("listen at {}", socket.display()))?;
        Ok(Self { socket, talk: thread::spawn(move || talk(listener.accept()?.0)) })
    }

    /// What the talk has come to, once it is over. A QEMU that has ended without connecting is
    /// replaced by a connection that says nothing.
    pub(super) fn finish(self) -> Result<T> {
        drop(UnixStream::connect(&self.socket));
        let talk = self.talk.join().expect("talking does not panic");
        talk.with_context(|| format!("talk at {}", self.socket.display()))
    }
}

/// Copies to `to` what comes, as it comes.
pub(super) fn copy<W: Write>(mut to: W) -> impl FnOnce(UnixStream) -> io::Result<W> {
    move |mut from| {
        let mut buffer = [0; 16 << 10];
        loop {
            match from.read(&mut buffer)? {
                0 => return Ok(to),
                count => to.write_all(&buffer[..count]).and_then(|()| to.flush())?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_comes_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let port = Port::listen(folder.path(), "port", copy(Vec::new())).unwrap();
        let mut peer = UnixStream::connect(&port.socket).unwrap();
        peer.write_all(&[7; 100_000]).unwrap();
        drop(peer);
        assert_eq!(port.finish().unwrap(), vec![7; 100_000]);
    }

    #[test]
    fn a_peer_that_never_came_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let port = Port::listen(folder.path(), "port", copy(Vec::new())).unwrap();
        assert_eq!(port.finish().unwrap(), Vec::<u8>::new());
    }
}
