//! What is granted: which names and addresses, on which ports.

use std::net::IpAddr;

use osvm_wire::grant::HostGrant;

use super::net::Net;

/// All grants of hosts.
#[derive(Debug)]
pub(super) struct Allowed {
    rules: Vec<(Pattern, Vec<u16>)>,
}

#[derive(Debug)]
enum Pattern {
    Name(String),
    /// Every name that ends so, with the dot, and has something before it.
    Below(String),
    Net(Net),
}

impl Allowed {
    pub(super) fn new(grants: &[HostGrant]) -> Self {
        let rule = |grant: &HostGrant| (Pattern::new(&grant.host), grant.ports.clone());
        Self { rules: grants.iter().map(rule).collect() }
    }

    /// The ports on which a host may be reached, given its name or its address; none if it is not granted.
    pub(super) fn ports(&self, host: &str) -> Vec<u16> {
        match host.parse() {
            Ok(address) => self.ports_where(|pattern| pattern.has_address(address)),
            Err(_) => self.ports_where(|pattern| pattern.has_name(host)),
        }
    }

    fn ports_where(&self, matches: impl Fn(&Pattern) -> bool) -> Vec<u16> {
        let rules = self.rules.iter().filter(|(pattern, _)| matches(pattern));
        let mut ports: Vec<u16> = rules.flat_map(|(_, ports)| ports).copied().collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    pub(super) fn nets(&self) -> impl Iterator<Item = (Net, &[u16])> {
        self.rules.iter().filter_map(|(pattern, ports)| match pattern {
            Pattern::Net(net) => Some((*net, ports.as_slice())),
            _ => None,
        })
    }
}

impl Pattern {
    fn new(host: &str) -> Self {
        match (Net::parse(host), host.strip_prefix('*')) {
            (Some(net), _) => Self::Net(net),
            (None, Some(parent)) => Self::Below(parent.to_owned()),
            (None, None) => Self::Name(host.to_owned()),
        }
    }

    fn has_name(&self, name: &str) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Below(parent) => {
                let label = name.strip_suffix(parent.as_str());
                label.is_some_and(|label| !label.is_empty() && !label.starts_with('.'))
            }
            Self::Net(_) => false,
        }
    }

    fn has_address(&self, address: IpAddr) -> bool {
        matches!(self, Self::Net(net) if net.contains(address))
    }
}

/// A name as grants have it: lower case, without a final dot. `None` for what is no host name.
pub(super) fn plain(name: &str) -> Option<String> {
    /// RFC 1035, less the final dot.
    const LONGEST: usize = 253;
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_part);
    let fits = name.len() <= LONGEST && name.split('.').all(is_label);
    fits.then(|| name.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(grants: &[(&str, &[u16])]) -> Allowed {
        let grant = |(host, ports): &(&str, &[u16])| HostGrant {
            host: (*host).to_owned(),
            ports: ports.to_vec(),
        };
        Allowed::new(&grants.iter().map(grant).collect::<Vec<_>>())
    }

    #[test]
    fn a_host_has_the_ports_of_every_grant_that_names_it() {
        let allowed = allowed(&[
            ("api.example.com", &[443]),
            ("*.example.com", &[443, 80]),
            ("192.0.2.0/24", &[22]),
        ]);
        assert_eq!(allowed.ports("api.example.com"), [80, 443]);
        assert_eq!(allowed.ports("a.b.example.com"), [80, 443]);
        assert_eq!(allowed.ports("192.0.2.9"), [22]);
        for host in ["example.com", ".example.com", "badexample.com", "192.0.3.1", "example.org"] {
            assert_eq!(allowed.ports(host), Vec::<u16>::new(), "{host}");
        }
    }

    #[test]
    fn names_are_taken_as_programs_write_them() {
        assert_eq!(plain("API.Example.com.").as_deref(), Some("api.example.com"));
        assert_eq!(plain("_srv.example").as_deref(), Some("_srv.example"));
        let long = "a".repeat(64);
        for name in ["", ".", "a..b", "a b", "ü.example", &long] {
            assert_eq!(plain(name), None, "{name}");
        }
    }
}
