//! A wire to a server of a test's, which can be cut in the middle of a download, and mended.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::world::World;

pub(crate) struct Forwarder {
    pub(crate) address: SocketAddr,
    wire: Arc<Wire>,
}

struct Wire {
    to: SocketAddr,
    /// Bytes that the server's side may still send; then everybody is hung up on.
    left: AtomicU64,
    sent: AtomicU64,
}

impl Forwarder {
    /// From any port of the loopback, with nothing cut.
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self::start(TcpListener::bind("127.0.0.1:0").unwrap(), to)
    }

    /// The same in a world. Sockets stay in the network that they were made in, as do threads that a thread starts.
    pub(crate) fn within(world: &World, from: SocketAddr, to: SocketAddr) -> Self {
        let network = std::fs::File::open(format!("/proc/{}/ns/net", world.pid())).unwrap();
        let start = move || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            Self::start(TcpListener::bind(from).unwrap(), to)
        };
        thread::spawn(start).join().unwrap()
    }

    fn start(listener: TcpListener, to: SocketAddr) -> Self {
        let address = listener.local_addr().unwrap();
        let wire = Wire { to, left: AtomicU64::new(u64::MAX), sent: AtomicU64::new(0) };
        let wire = Arc::new(wire);
        let all = Arc::clone(&wire);
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let wire = Arc::clone(&all);
                thread::spawn(move || wire.carry(&client));
            }
        });
        Self { address, wire }
    }

    /// After so many bytes more.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.wire.left.store(bytes, Ordering::SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.wire.left.store(u64::MAX, Ordering::SeqCst);
        self.wire.sent.store(0, Ordering::SeqCst);
    }

    /// Bytes that the server has sent since it was mended.
    pub(crate) fn sent(&self) -> u64 {
        self.wire.sent.load(Ordering::SeqCst)
    }
}

impl Wire {
    fn carry(&self, client: &TcpStream) {
        if self.left.load(Ordering::SeqCst) == 0 {
            return;
        }
        let server = TcpStream::connect(self.to).unwrap();
        let (mut asked, mut asks) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut asked, &mut asks);
            let _ = asks.shutdown(Shutdown::Write);
        });
        self.answer(client, &server);
        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
    }

    fn answer(&self, mut client: &TcpStream, mut server: &TcpStream) {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = server.read(&mut buffer) {
            let take = |left: u64| (left != u64::MAX).then(|| left.saturating_sub(count as u64));
            let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
            let left = self.left.fetch_update(set, fetch, take).unwrap_or(u64::MAX);
            if left < count as u64 || client.write_all(&buffer[..count]).is_err() {
                return;
            }
            self.sent.fetch_add(count as u64, Ordering::SeqCst);
        }
    }
}
