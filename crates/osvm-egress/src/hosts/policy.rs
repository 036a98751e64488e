//! Whether a guest may connect to a host, by the rules that its user wrote. Pure: a look-up's result is asked
//! about afterwards, address by address, with [`Grant::admit`].
//!
//! A name matches names only and an address networks only: a guest that may reach `api.example.com` may not
//! reach its address without saying the name, and one that may reach `192.0.2.0/24` may not use any name that
//! leads there.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use osvm_spec::{HostPattern, HostRule, Hosts, plain_host_name};
use thiserror::Error;

use super::address::Realm;

/// What a guest asks for, in the form that rules have: names in lower case, addresses unwrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub host: Host,
    pub port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    Name(String),
    Address(IpAddr),
    /// [`HostRule::SELF`]: the host's own loopback.
    Own,
}

/// A connection may be tried, to the addresses that [`Grant::admit`] lets pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub target: Target,
    /// Also where the addresses are private.
    private: bool,
    /// The networks that may be reached on this port whatever they are.
    networks: Vec<IpNet>,
}

/// Why a connection may not be made, and which flag would allow it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Denial {
    #[error("it is neither a host name nor an address")]
    Host,
    #[error("0 is no port")]
    Port,
    #[error("no rule allows it; hint: --allow {}", .0.rule())]
    NoRule(Target),
    #[error("rules allow this host on port {} only; hint: --allow {}", Ports(allowed), target.rule())]
    OtherPorts { target: Target, allowed: Vec<u16> },
    #[error("{address} is {realm}{}", Remedy { target, address, realm })]
    Address { target: Target, address: IpAddr, realm: Realm },
}

/// Whether the rules let a guest connect to `host`, which is a name or an address, at `port`.
pub fn decide(rules: &Hosts, host: &str, port: u16) -> Result<Grant, Denial> {
    let target = Target::new(host, port)?;
    let private = allows(&rules.allow_private, &target);
    if !private && !allows(&rules.allow, &target) {
        return Err(no_rule(rules, target));
    }
    let networks = networks(&rules.allow_private, port);
    let grant = Grant { target, private, networks };
    match grant.target.host {
        Host::Address(address) => grant.admit(address).map(|()| grant),
        Host::Name(_) | Host::Own => Ok(grant),
    }
}

impl Target {
    pub fn new(host: &str, port: u16) -> Result<Self, Denial> {
        let host = match host.parse::<IpAddr>() {
            Ok(address) => Host::Address(address.to_canonical()),
            Err(_) => Host::named(host).ok_or(Denial::Host)?,
        };
        if port == 0 {
            return Err(Denial::Port);
        }
        Ok(Self { host, port })
    }

    /// Whether it is one of the rule's hosts, on one of its ports.
    pub fn is_of(&self, rule: &HostRule) -> bool {
        rule.has_port(self.port) && self.host.matches(&rule.host)
    }

    /// The rule that allows this and nothing else.
    pub(crate) fn exact_rule(&self) -> HostRule {
        HostRule { port: Some(self.port), ..self.rule() }
    }

    /// The rule that allows this and, for a web port, the other one.
    fn rule(&self) -> HostRule {
        let host = match &self.host {
            Host::Name(name) => HostPattern::Name(name.clone()),
            Host::Own => HostPattern::Name(HostRule::SELF.to_owned()),
            Host::Address(address) => HostPattern::Net((*address).into()),
        };
        let is_usual = HostRule::USUAL_PORTS.contains(&self.port) && self.host != Host::Own;
        HostRule { host, port: (!is_usual).then_some(self.port) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host {
            Host::Address(address) => SocketAddr::new(address, self.port).fmt(f),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Host {
    /// Not for a number at the end: that is an address in a spelling that only some programs know.
    fn named(text: &str) -> Option<Self> {
        let name = plain_host_name(text)?;
        let last = name.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit());
        (!is_number).then(|| if name == HostRule::SELF { Self::Own } else { Self::Name(name) })
    }

    fn matches(&self, pattern: &HostPattern) -> bool {
        match self {
            Self::Name(name) => pattern.has_name(name),
            Self::Address(address) => pattern.has_address(*address),
            // No wildcard means the host itself.
            Self::Own => matches!(pattern, HostPattern::Name(name) if name == HostRule::SELF),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => fmt::Display::fmt(address, f),
            Self::Own => f.write_str(HostRule::SELF),
        }
    }
}

impl Grant {
    /// Whether the connection may be made to one of its host's addresses.
    pub fn admit(&self, address: IpAddr) -> Result<(), Denial> {
        let address = address.to_canonical();
        let realm = Realm::of(address);
        let by_network = || self.networks.iter().any(|network| network.contains(&address));
        let admitted = match realm {
            Realm::Loopback => self.target.host == Host::Own,
            _ if self.target.host == Host::Own => false,
            Realm::Public => true,
            Realm::Private => self.private || by_network(),
            Realm::Link => by_network(),
            Realm::Reserved => false,
        };
        let denial = || Denial::Address { target: self.target.clone(), address, realm };
        admitted.then_some(()).ok_or_else(denial)
    }
}

fn allows(rules: &[HostRule], target: &Target) -> bool {
    rules.iter().any(|rule| target.is_of(rule))
}

fn networks(rules: &[HostRule], port: u16) -> Vec<IpNet> {
    let on_port = rules.iter().filter(|rule| rule.has_port(port));
    let network = |rule: &HostRule| match rule.host {
        HostPattern::Net(network) => Some(network),
        HostPattern::Name(_) | HostPattern::Below(_) => None,
    };
    on_port.filter_map(network).collect()
}

fn no_rule(rules: &Hosts, target: Target) -> Denial {
    let all = rules.allow.iter().chain(&rules.allow_private);
    let ours = all.filter(|rule| target.host.matches(&rule.host));
    let mut allowed: Vec<u16> = ours.flat_map(HostRule::ports).collect();
    allowed.sort_unstable();
    allowed.dedup();
    match allowed.is_empty() {
        true => Denial::NoRule(target),
        false => Denial::OtherPorts { target, allowed },
    }
}

/// `80 or 443`, as a sentence has them.
struct Ports<'p>(&'p [u16]);

impl fmt::Display for Ports<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(" or "))
    }
}

/// What would have let the address pass, after a semicolon. No rule lets reserved ones pass.
struct Remedy<'d> {
    target: &'d Target,
    address: &'d IpAddr,
    realm: &'d Realm,
}

impl fmt::Display for Remedy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, address, realm } = self;
        let port = target.port;
        match realm {
            Realm::Public | Realm::Reserved => Ok(()),
            Realm::Private => write!(f, "; hint: --allow-private {}", target.rule()),
            Realm::Link => {
                let exact = Target { host: Host::Address(**address), port };
                write!(f, "; hint: --allow-private {}", exact.rule())
            }
            Realm::Loopback => write!(f, "; hint: --allow {}:{port}", HostRule::SELF),
        }
    }
}

#[cfg(test)]
mod tests;
