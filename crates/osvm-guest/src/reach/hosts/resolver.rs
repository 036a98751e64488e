//! Where programs send their DNS queries: 127.0.0.1, over UDP and TCP.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::Hosts;
use super::dns::{self, MAX_QUERY};

const AT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 53);

/// TCP connections at a time, and how long one may be silent.
const MAX_CONNECTIONS: usize = 16;
const SILENT_FOR: Duration = Duration::from_secs(10);

/// Pause after an error of a socket, which comes from a shortage and passes.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn start(hosts: &Arc<Hosts>) -> io::Result<()> {
    let datagrams = UdpSocket::bind(AT).await?;
    let listener = TcpListener::bind(AT).await?;
    tokio::spawn(serve_datagrams(Arc::clone(hosts), datagrams));
    tokio::spawn(serve_connections(Arc::clone(hosts), listener));
    Ok(())
}

fn answer(hosts: &Arc<Hosts>, query: &[u8]) -> Option<Vec<u8>> {
    dns::answer(query, |name, kind| hosts.find(name, kind))
}

async fn serve_datagrams(hosts: Arc<Hosts>, socket: UdpSocket) {
    let mut buffer = [0; MAX_QUERY];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((count, asker)) => {
                if let Some(answer) = answer(&hosts, &buffer[..count]) {
                    // A program that can't be answered asks again, or is gone.
                    let _ = socket.try_send_to(&answer, asker);
                }
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn serve_connections(hosts: Arc<Hosts>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let hosts = Arc::clone(&hosts);
        tokio::spawn(async move {
            let _place = place;
            serve_connection(&hosts, stream).await
        });
    }
}

/// Queries one after the other, each behind its length.
async fn serve_connection(hosts: &Arc<Hosts>, mut stream: TcpStream) -> io::Result<()> {
    while let Ok(query) = tokio::time::timeout(SILENT_FOR, read_query(&mut stream)).await {
        let Some(mut answer) = answer(hosts, &query?) else { break };
        answer.splice(..0, (answer.len() as u16).to_be_bytes());
        let written = tokio::time::timeout(SILENT_FOR, stream.write_all(&answer)).await;
        written.map_err(|_| io::ErrorKind::TimedOut)??;
    }
    Ok(())
}

async fn read_query(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?.into();
    if length > MAX_QUERY {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut query = vec![0; length];
    stream.read_exact(&mut query).await?;
    Ok(query)
}
