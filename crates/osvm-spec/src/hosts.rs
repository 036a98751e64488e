//! Which hosts a server may reach, as users write it: `api.example.com`, `*.example.com:8443`, `192.0.2.0/24:22`,
//! `[2001:db8::1]:443`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A host and its ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostRule {
    pub host: HostPattern,
    /// `None` for [`Self::USUAL_PORTS`].
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// In lower case, without a final dot.
    Name(String),
    /// `*.example.com`: every name below it, and not itself.
    Below(String),
    /// An address, or all of a network, that is connected to without any name.
    Net(IpNet),
}

/// All that a server may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hosts {
    /// On public addresses, and the host's own [`HostRule::SELF`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<HostRule>,
    /// Also on private ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_private: Vec<HostRule>,
}

/// Why a text is no host with its ports.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostRuleError {
    #[error("host {0:?} is neither a name, an address nor a network")]
    Host(String),
    #[error("host {text:?}: {port:?} is no port from 1 to 65535")]
    Port { text: String, port: String },
    #[error("host {0:?}: a wildcard stands for whole labels and comes first, as in *.example.com")]
    Wildcard(String),
    #[error("host {0:?} allows everything, which is no policy")]
    Everything(String),
    #[error("host {}: a port must be named, as in {}:5432", HostRule::SELF, HostRule::SELF)]
    SelfWithoutPort,
    #[error("network {net} has bits set beyond its prefix; did you mean {meant}?")]
    Bits { net: String, meant: String },
}

impl Hosts {
    pub fn is_empty(&self) -> bool {
        self.allow.is_empty() && self.allow_private.is_empty()
    }

    /// In the order in which they are asked.
    pub fn rules(&self) -> impl Iterator<Item = &HostRule> {
        self.allow.iter().chain(&self.allow_private)
    }

    /// These, and those.
    #[must_use]
    pub fn and(mut self, more: Self) -> Self {
        self.allow.extend(more.allow);
        self.allow_private.extend(more.allow_private);
        self
    }
}

impl HostRule {
    /// The host's own loopback interface.
    pub const SELF: &str = "host.osvm.internal";

    pub const USUAL_PORTS: [u16; 2] = [443, 80];

    pub fn ports(&self) -> Vec<u16> {
        self.port.map_or_else(|| Self::USUAL_PORTS.to_vec(), |port| vec![port])
    }

    pub fn has_port(&self, port: u16) -> bool {
        self.port.map_or_else(|| Self::USUAL_PORTS.contains(&port), |own| own == port)
    }
}

impl HostPattern {
    /// `name` as [`plain`] makes it.
    pub fn has_name(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Below(parent) => name.strip_suffix(parent.as_str()).is_some_and(|label| {
                label.len() > 1 && label.ends_with('.') && !label.starts_with('.')
            }),
            Self::Net(_) => false,
        }
    }

    pub fn has_address(&self, address: IpAddr) -> bool {
        matches!(self, Self::Net(net) if net.contains(&address))
    }
}

/// A name as rules have it: lower case, without a final dot. `None` for what is no host name.
pub fn plain(name: &str) -> Option<String> {
    /// RFC 1035, less the final dot.
    const LONGEST: usize = 253;
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=63).contains(&label.len()) && label.chars().all(inner) && !label.starts_with('-')
    };
    let fits = name.len() <= LONGEST && name.split('.').all(is_label);
    fits.then(|| name.to_ascii_lowercase())
}

impl FromStr for HostRule {
    type Err = HostRuleError;

    fn from_str(text: &str) -> Result<Self, HostRuleError> {
        let (host, port) = split(text);
        let port = port.map(|digits| parse_port(text, digits)).transpose()?;
        let host = host.parse()?;
        if host == HostPattern::Name(Self::SELF.to_owned()) && port.is_none() {
            return Err(HostRuleError::SelfWithoutPort);
        }
        Ok(Self { host, port })
    }
}

/// Host and port. Addresses of version 6 have colons of their own and stand in brackets where a port follows.
fn split(text: &str) -> (&str, Option<&str>) {
    if text.parse::<Ipv6Addr>().is_ok() || text.parse::<IpNet>().is_ok_and(|n| n.addr().is_ipv6()) {
        return (text, None);
    }
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

fn parse_port(text: &str, digits: &str) -> Result<u16, HostRuleError> {
    let wrong = || HostRuleError::Port { text: text.to_owned(), port: digits.to_owned() };
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| plain && *port != 0).ok_or_else(wrong)
}

impl FromStr for HostPattern {
    type Err = HostRuleError;

    fn from_str(text: &str) -> Result<Self, HostRuleError> {
        if let Some(net) = parse_net(text)? {
            return Ok(Self::Net(net));
        }
        let wrong = || HostRuleError::Host(text.to_owned());
        if text == "*" {
            return Err(HostRuleError::Everything(text.to_owned()));
        }
        if let Some(parent) = text.strip_prefix("*.") {
            return plain(parent).map(Self::Below).ok_or_else(wrong);
        }
        if text.contains('*') {
            return Err(HostRuleError::Wildcard(text.to_owned()));
        }
        // What is all digits and dots was meant to be an address.
        let is_number = text.chars().all(|c| c.is_ascii_digit() || c == '.');
        plain(text).filter(|_| !is_number).map(Self::Name).ok_or_else(wrong)
    }
}

fn parse_net(text: &str) -> Result<Option<IpNet>, HostRuleError> {
    let bare: String = text.chars().filter(|c| !"[]".contains(*c)).collect();
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(Some(address.into()));
    }
    let Ok(net) = bare.parse::<IpNet>() else { return Ok(None) };
    if net.prefix_len() == 0 {
        return Err(HostRuleError::Everything(text.to_owned()));
    }
    match net.trunc() == net {
        true => Ok(Some(net)),
        false => Err(HostRuleError::Bits { net: bare, meant: net.trunc().to_string() }),
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Below(parent) => write!(f, "*.{parent}"),
            Self::Net(net) if net.prefix_len() == net.max_prefix_len() => {
                fmt::Display::fmt(&net.addr(), f)
            }
            Self::Net(net) => fmt::Display::fmt(net, f),
        }
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (host, None) => fmt::Display::fmt(host, f),
            (HostPattern::Net(IpNet::V6(_)), Some(port)) => write!(f, "[{}]:{port}", self.host),
            (host, Some(port)) => write!(f, "{host}:{port}"),
        }
    }
}

impl TryFrom<String> for HostRule {
    type Error = HostRuleError;

    fn try_from(text: String) -> Result<Self, HostRuleError> {
        text.parse()
    }
}

impl From<HostRule> for String {
    fn from(rule: HostRule) -> Self {
        rule.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> HostRule {
        text.parse().unwrap()
    }

    #[test]
    fn rules_are_shown_as_they_are_written() {
        for text in [
            "api.example.com",
            "*.example.com:8443",
            "192.0.2.7:22",
            "192.0.2.0/24",
            "192.0.2.0/24:5432",
            "2001:db8::1",
            "[2001:db8::1]:443",
            "[2001:db8::/32]:443",
            "host.osvm.internal:5432",
        ] {
            assert_eq!(rule(text).to_string(), text);
        }
        assert_eq!(rule("API.Example.com.").to_string(), "api.example.com");
    }

    #[test]
    fn without_a_port_the_webs_are_meant() {
        assert_eq!(rule("a.example").ports(), [443, 80]);
        assert!(rule("a.example").has_port(80) && !rule("a.example").has_port(22));
        assert_eq!(rule("a.example:22").ports(), [22]);
        assert!(!rule("a.example:22").has_port(443));
    }

    #[test]
    fn a_wildcard_stands_for_every_name_below_and_no_other() {
        let below = rule("*.example.com").host;
        assert!(below.has_name("a.example.com") && below.has_name("a.b.example.com"));
        for other in ["example.com", ".example.com", "badexample.com", "example.com.evil.com", ""] {
            assert!(!below.has_name(other), "{other}");
        }
    }

    #[test]
    fn an_address_is_no_name_and_a_name_no_address() {
        let net = rule("192.0.2.0/24").host;
        assert!(net.has_address("192.0.2.9".parse().unwrap()) && !net.has_name("192.0.2.9"));
        assert!(!net.has_address("192.0.3.9".parse().unwrap()));
        assert!(!rule("a.example").host.has_address("192.0.2.9".parse().unwrap()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_reason() {
        let refused = |text: &str| text.parse::<HostRule>().unwrap_err();
        for text in
            ["", "a b", "-a.example", "a..example", "999.1.1.1", "a.example/24", "https://a"]
        {
            assert!(
                matches!(refused(text), HostRuleError::Host(_) | HostRuleError::Port { .. }),
                "{text}"
            );
        }
        for text in ["a:0", "a:65536", "a:+1", "a:", "a:https"] {
            assert!(matches!(refused(text), HostRuleError::Port { .. }), "{text}");
        }
        assert!(matches!(refused("a.*.com"), HostRuleError::Wildcard(_)));
        assert!(matches!(refused("*"), HostRuleError::Everything(_)));
        assert!(matches!(refused("0.0.0.0/0"), HostRuleError::Everything(_)));
        assert_eq!(refused("host.osvm.internal"), HostRuleError::SelfWithoutPort);
        let meant = "192.0.2.0/24".to_owned();
        assert_eq!(
            refused("192.0.2.7/24"),
            HostRuleError::Bits { net: "192.0.2.7/24".into(), meant }
        );
    }
}
