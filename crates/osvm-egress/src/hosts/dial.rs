//! Makes the connection that was granted: looks the name up once, asks the grant about every address, and
//! connects to those very addresses. Nothing is looked up a second time, so a name that leads elsewhere by then
//! (DNS rebinding) leads nowhere.
//!
//! Through a proxy it is the proxy that connects. What the host can look up is checked all the same; where it
//! can't, as in networks that leave names to their proxy, the proxy is trusted to reach what its owner wants
//! reached.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::policy::{Denial, Grant, Host};
use super::proxy::{Proxies, Proxy, ProxyError};
use super::resolve::{LookupError, Resolver};

/// How many of a name's addresses are tried.
const TRIED: usize = 8;

/// Longest that one address is waited for.
const ADDRESS: Duration = Duration::from_secs(5);

/// Longest that a connection may take to be made, from the look-up on.
const LONGEST: Duration = Duration::from_secs(15);

/// A connection, whatever carries it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(crate) struct Connected {
    pub(crate) stream: Box<dyn Stream>,
    /// As the log shows it: an address, or a proxy.
    pub(crate) place: String,
}

#[derive(Debug, Error)]
pub(crate) enum DialError {
    #[error(transparent)]
    Denied(#[from] Denial),
    #[error(transparent)]
    Lookup(#[from] LookupError),
    #[error("{address} can't be reached: {source}")]
    Unreachable { address: SocketAddr, source: io::Error },
    #[error("no connection in {} s", LONGEST.as_secs())]
    Slow,
    #[error(transparent)]
    Proxy(#[from] ProxyError),
}

pub(crate) struct Dialler {
    resolver: Resolver,
    proxies: Proxies,
}

impl Dialler {
    pub(crate) fn new(resolver: Resolver, proxies: Proxies) -> Self {
        Self { resolver, proxies }
    }

    pub(crate) async fn dial(&self, grant: &Grant) -> Result<Connected, DialError> {
        timeout(LONGEST, self.reach(grant)).await.unwrap_or(Err(DialError::Slow))
    }

    async fn reach(&self, grant: &Grant) -> Result<Connected, DialError> {
        let addresses = self.admitted(grant).await;
        match (self.proxies.between(&grant.target), addresses) {
            (None, addresses) => direct(&addresses?, grant.target.port).await,
            (Some(proxy), Ok(_) | Err(DialError::Lookup(_))) => self.through(&proxy, grant).await,
            (Some(_), Err(error)) => Err(error),
        }
    }

    /// The addresses of the granted host which may be connected to, at least one.
    async fn admitted(&self, grant: &Grant) -> Result<Vec<IpAddr>, DialError> {
        let all = match &grant.target.host {
            Host::Address(address) => vec![*address],
            Host::Own => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
            Host::Name(name) => self.resolver.addresses(&format!("{name}.")).await?,
        };
        let asked = all.into_iter().map(|address| grant.admit(address).map(|()| address));
        let (admitted, denied): (Vec<_>, Vec<_>) = asked.partition(Result::is_ok);
        match denied.into_iter().find_map(Result::err) {
            Some(denial) if admitted.is_empty() => Err(denial.into()),
            _ => Ok(admitted.into_iter().flatten().collect()),
        }
    }

    async fn through(&self, proxy: &Proxy, grant: &Grant) -> Result<Connected, DialError> {
        let addresses = match proxy.host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.resolver.addresses(&proxy.host).await?,
        };
        let (stream, _) = connect(&addresses, proxy.port).await?;
        let stream = Box::new(proxy.tunnel(stream, &grant.target).await?);
        Ok(Connected { stream, place: format!("via {}:{}", proxy.host, proxy.port) })
    }
}

async fn direct(addresses: &[IpAddr], port: u16) -> Result<Connected, DialError> {
    let (stream, address) = connect(addresses, port).await?;
    Ok(Connected { stream: Box::new(stream), place: address.to_string() })
}

/// To the first address that answers.
async fn connect(addresses: &[IpAddr], port: u16) -> Result<(TcpStream, IpAddr), DialError> {
    let mut last = DialError::Lookup(LookupError::NoAddress);
    for address in addresses.iter().take(TRIED) {
        match connect_to(SocketAddr::new(*address, port)).await {
            Ok(stream) => return Ok((stream, *address)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_to(address: SocketAddr) -> Result<TcpStream, DialError> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no answer in 5 s");
    let connected = timeout(ADDRESS, TcpStream::connect(address)).await.map_err(late).flatten();
    let stream = connected.map_err(|source| DialError::Unreachable { address, source })?;
    // The guest's own TCP has gathered small writes where it wanted that.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}
