//! Hosts: an ordinary `connect()` to a granted name or address lands on a listener here, which has the host make the
//! connection. There is no way out beside it: no network card, no route.
//!
//! ```text
//! getaddrinfo("api.example.com") ──> resolver (127.0.0.1:53) ──> a fake address of its own, from 198.18.0.0/15
//! connect(198.18.1.1:443) ──> listener on that address ──> HostRequest::Connect("api.example.com", 443) ──> host
//! connect(198.18.1.1:22)  ──> reset by the kernel, seen by the watcher ──> HostRequest::Refused ──> host
//! HTTPS_PROXY             ──> proxy (127.0.0.1:3128) ──> HostRequest::Connect
//! ```
//!
//! While recording, names that are not granted have fake addresses too, where nobody listens, and all of IPv4 is local:
//! the kernel resets every connection that has no listener, and the watcher tells which it was.

mod allowed;
mod connect;
pub(crate) mod dns;
mod listen;
mod names;
mod net;
pub(crate) mod proxy;
mod reports;
mod resolv_conf;
mod resolver;
#[cfg(test)]
mod tests;
mod watcher;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use osvm_wire::grant::Grants;
use osvm_wire::message::Refusal;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

use self::allowed::{Allowed, plain};
use self::connect::Connector;
use self::dns::{Found, Kind};
use self::names::Names;
use self::reports::Reports;
use super::failed;
use super::host::Host;
use crate::console::say;
use crate::netlink;

pub(crate) use self::proxy::ENVIRONMENT;

/// Files the agent may have open: every name has a listener for each of its ports.
const OPEN_FILES: u64 = 16_384;

/// What is made local to notice attempts at addresses.
const EVERY: (Ipv4Addr, u8) = (Ipv4Addr::UNSPECIFIED, 0);

/// All there is for hosts.
pub(super) struct Hosts {
    allowed: Allowed,
    has_large_nets: bool,
    /// Whether every attempt is to be noticed: then each name has an address, and each address a way to nowhere.
    record: bool,
    names: Mutex<Names>,
    connector: Connector,
    reports: Reports,
}

/// Makes hosts reachable, over so many connections at a time. `etc` is the image's `/etc`.
pub(super) async fn start(
    grants: &Grants,
    host: &Host,
    connections: usize,
    etc: Option<&Path>,
) -> Result<(), Refusal> {
    raise_limit();
    let allowed = Allowed::new(&grants.hosts);
    let has_large_nets = allowed.nets().any(|(net, _)| listen::is_large(&net));
    let hosts = Arc::new(Hosts {
        allowed,
        has_large_nets,
        record: grants.record,
        names: Mutex::default(),
        connector: Connector::new(host.clone(), connections),
        reports: Reports::start(host.clone()),
    });
    let (address, prefix) = names::OWN;
    netlink::add_address(address.into(), prefix).map_err(failed("give lo its addresses"))?;
    resolver::start(&hosts).await.map_err(failed("start the resolver"))?;
    proxy::start(&hosts).await.map_err(failed("start the proxy"))?;
    hosts.open_nets()?;
    if hosts.record {
        let (every, prefix) = EVERY;
        netlink::make_local(every.into(), prefix).map_err(failed("make every address local"))?;
    }
    if let Err(error) = watcher::start(&hosts) {
        say(format_args!("refused connections go unnoticed: {error}"));
    }
    let named = etc.map_or(Ok(()), resolv_conf::write);
    named.map_err(failed("name the resolver in /etc/resolv.conf"))
}

/// Listeners need descriptors. A limit that must not be raised stays as it is.
fn raise_limit() {
    let own = getrlimit(Resource::Nofile);
    if own.current.is_some_and(|current| current < OPEN_FILES) {
        let maximum = own.maximum.map(|maximum| maximum.max(OPEN_FILES));
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(OPEN_FILES), maximum });
    }
}

impl Hosts {
    fn open_nets(self: &Arc<Self>) -> Result<(), Refusal> {
        let mut nets: Vec<_> = self.allowed.nets().collect();
        // A large network's listener can't be had once there is one for a single address.
        nets.sort_by_key(|(net, _)| !listen::is_large(net));
        for (net, ports) in nets {
            let act = format!("listen on {}/{}", net.address, net.prefix);
            let opened = listen::open_net(net, ports).map_err(failed(act))?;
            opened.into_iter().for_each(|listener| self.serve(listener));
        }
        Ok(())
    }

    fn serve(self: &Arc<Self>, listener: TcpListener) {
        tokio::spawn(listen::serve(Arc::clone(self), listener));
    }

    /// What a program finds that looks `name` up.
    fn find(self: &Arc<Self>, name: &str, kind: Kind) -> Found {
        if let Some(found) = find_own(name, kind) {
            return found;
        }
        let Some(name) = plain(name) else { return Found::NoName };
        if self.allowed.ports(&name).is_empty() {
            // What address has which name is no attempt to reach anything.
            if !name.ends_with(".arpa") {
                self.reports.refused(&name, None);
            }
            if !self.record {
                return Found::NoName;
            }
        }
        match kind {
            Kind::A => self.address(&name).map_or(Found::Failed, Found::Address),
            Kind::Aaaa | Kind::Other => Found::NoRecord,
        }
    }

    /// The fake address of a granted name, where listeners are before anybody is told of it.
    fn address(self: &Arc<Self>, name: &str) -> Option<IpAddr> {
        let mut names = self.names();
        if let Some(address) = names.get(name) {
            return Some(address.into());
        }
        let address = names.next()?.into();
        match self.listen(address, &self.allowed.ports(name)) {
            Ok(()) => {
                names.insert(name);
                if names.next().is_none() {
                    say(format_args!("{name} was the last name that was given an address"));
                }
                Some(address)
            }
            Err(error) => {
                say(format_args!("failed to listen for {name}: {error}"));
                None
            }
        }
    }

    fn listen(self: &Arc<Self>, address: IpAddr, ports: &[u16]) -> io::Result<()> {
        let opened = ports.iter().map(|port| listen::listen(address, *port));
        // A large network's listener takes what comes for any address.
        let opened = opened.filter(|opened| !(self.has_large_nets && listen::is_taken(opened)));
        let listeners = opened.collect::<io::Result<Vec<_>>>()?;
        listeners.into_iter().for_each(|listener| self.serve(listener));
        Ok(())
    }

    /// Somebody connected to a fake address, granted or not; while recording, to any but the guest's own.
    fn knocked(&self, address: Ipv4Addr, port: u16) {
        let name = self.names().name(address).map(str::to_owned);
        let is_elsewhere = self.record && !address.is_loopback() && !names::is_fake(address);
        let host = name.or_else(|| is_elsewhere.then(|| address.to_string()));
        if let Some(host) = host
            && !self.allowed.ports(&host).contains(&port)
        {
            self.reports.refused(&host, Some(port));
        }
    }

    /// The name that has a fake address, or the address itself.
    fn host_at(&self, address: IpAddr) -> String {
        let named = match address {
            IpAddr::V4(fake) => self.names().name(fake).map(str::to_owned),
            IpAddr::V6(_) => None,
        };
        named.unwrap_or_else(|| address.to_string())
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The VM's own names.
fn find_own(name: &str, kind: Kind) -> Option<Found> {
    let is_localhost = name == "localhost" || name.ends_with(".localhost");
    let own = rustix::system::uname();
    if !is_localhost && !own.nodename().to_bytes().eq_ignore_ascii_case(name.as_bytes()) {
        return None;
    }
    Some(match kind {
        Kind::A => Found::Address(Ipv4Addr::LOCALHOST.into()),
        Kind::Aaaa => Found::Address(Ipv6Addr::LOCALHOST.into()),
        Kind::Other => Found::NoRecord,
    })
}
