//! An HTTP proxy on the loopback interface, for programs that insist on one or look names up in ways of their own.

pub(crate) mod head;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use self::head::{MAX_HEAD, Wanted, Way};
use super::Hosts;
use super::connect::{ConnectError, Outside, carry};
use crate::console::chain;

const AT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3128);

/// What programs find in their environment, unless their own says otherwise. Both cases are in use.
pub(crate) const ENVIRONMENT: [(&str, &str); 6] = [
    ("HTTP_PROXY", URL),
    ("HTTPS_PROXY", URL),
    ("http_proxy", URL),
    ("https_proxy", URL),
    ("NO_PROXY", OWN),
    ("no_proxy", OWN),
];

const URL: &str = "http://127.0.0.1:3128";
const OWN: &str = "localhost,127.0.0.1,::1";

/// How long a program may take for a request's head.
const HEAD_WITHIN: Duration = Duration::from_secs(30);

/// Pause after a failed accept, which comes from a shortage and passes.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn start(hosts: &Arc<Hosts>) -> io::Result<()> {
    let listener = TcpListener::bind(AT).await?;
    tokio::spawn(serve(Arc::clone(hosts), listener));
    Ok(())
}

async fn serve(hosts: Arc<Hosts>, listener: TcpListener) {
    loop {
        let Ok((inside, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Some(place) = hosts.connector.place().await else { return };
        let hosts = Arc::clone(&hosts);
        tokio::spawn(async move {
            let _place = place;
            serve_one(&hosts, inside).await
        });
    }
}

async fn serve_one(hosts: &Hosts, mut inside: TcpStream) -> io::Result<()> {
    let asked = tokio::time::timeout(HEAD_WITHIN, read_request(&mut inside)).await;
    let (wanted, rest) = match asked {
        Ok(Ok(asked)) => asked,
        Ok(Err(ReadError::Bad(why))) => return refuse(&mut inside, "400 Bad Request", why).await,
        Ok(Err(ReadError::Io(error))) => return Err(error),
        Err(_) => return refuse(&mut inside, "408 Request Timeout", "no request came").await,
    };
    match connect(hosts, &wanted).await {
        Ok(outside) => go_on(inside, outside, wanted.way, &rest).await,
        Err(ConnectError::Refused(why)) => refuse(&mut inside, "403 Forbidden", &why).await,
        Err(error) => refuse(&mut inside, "502 Bad Gateway", &chain(&error)).await,
    }
}

enum ReadError {
    Bad(&'static str),
    Io(io::Error),
}

/// The request, and what came behind its head.
async fn read_request(inside: &mut TcpStream) -> Result<(Wanted, Vec<u8>), ReadError> {
    let mut bytes = Vec::new();
    loop {
        let room = (MAX_HEAD - bytes.len()) as u64;
        let count = inside.take(room).read_buf(&mut bytes).await.map_err(ReadError::Io)?;
        if let Some(wanted) = head::parse(&bytes).map_err(|head::Bad(why)| ReadError::Bad(why))? {
            let rest = bytes.split_off(wanted.length);
            return Ok((wanted, rest));
        }
        if count == 0 {
            return Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

async fn connect(hosts: &Hosts, wanted: &Wanted) -> Result<Outside, ConnectError> {
    let Wanted { host, port, .. } = wanted;
    if !hosts.allowed.ports(host).contains(port) {
        hosts.reports.refused(host, Some(*port));
        return Err(ConnectError::Refused(format!("{host}:{port} is not allowed for this server")));
    }
    hosts.connector.connect(host, *port).await
}

async fn go_on(mut inside: TcpStream, outside: Outside, way: Way, rest: &[u8]) -> io::Result<()> {
    match way {
        Way::Tunnel => {
            inside.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            carry(outside, inside, rest).await;
        }
        Way::Forward(head) => carry(outside, inside, &[head.as_slice(), rest].concat()).await,
    }
    Ok(())
}

async fn refuse(inside: &mut TcpStream, status: &str, why: &str) -> io::Result<()> {
    let length = why.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{why}\n"
    );
    inside.write_all(answer.as_bytes()).await?;
    inside.shutdown().await
}
