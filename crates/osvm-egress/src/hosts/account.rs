//! An egress log read back: which hosts and paths a guest tried, and what became of it. Pure.
//!
//! Lines are written by [`log`](super::log), but hold words of the guest's. A line that is not understood is skipped.

use std::net::IpAddr;

use osvm_spec::{HostPattern, HostRule, plain_host_name};
use osvm_wire::grant::TriedPath;

use super::address::Realm;
use super::policy::{Host, Target};

/// What one line tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    Host(Attempt),
    /// A name that was looked up and is not granted, whatever was to be done there.
    LookedUp(String),
    Path(TriedPath),
}

/// A connection that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub target: Target,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The connection was made.
    Opened,
    /// One that was made has ended.
    Allowed,
    /// It was granted, and could not be made.
    Failed,
    /// By no rule; what would have allowed it, where anything can.
    Refused(Option<Remedy>),
}

/// The rule that would have allowed an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    pub rule: HostRule,
    /// Whether it belongs among the rules for private addresses.
    pub private: bool,
}

/// Everything that a log tells, in its order.
pub fn entries(log: &str) -> impl Iterator<Item = Entry> {
    log.lines().filter_map(entry)
}

fn entry(line: &str) -> Option<Entry> {
    let (_time, words) = line.split_once(' ')?;
    let (verdict, rest) = words.split_once(' ')?;
    match verdict {
        "opened" => attempt(rest, Outcome::Opened),
        "allowed" => attempt(rest, Outcome::Allowed),
        "failed" => attempt(rest, Outcome::Failed),
        "refused" => refused(rest),
        "tried" => path(rest).map(Entry::Path),
        _ => None,
    }
}

fn attempt(rest: &str, outcome: Outcome) -> Option<Entry> {
    let subject = rest.split_whitespace().next()?;
    let target = target(subject.strip_suffix(':').unwrap_or(subject))?;
    Some(Entry::Host(Attempt { target, outcome }))
}

fn refused(rest: &str) -> Option<Entry> {
    let (subject, reason) = rest.split_once(": ")?;
    let (subject, in_guest) = match subject.strip_suffix(" in the guest") {
        Some(subject) => (subject, true),
        None => (subject, false),
    };
    match target(subject) {
        Some(target) => {
            let outcome = Outcome::Refused(remedy(&target, reason));
            Some(Entry::Host(Attempt { target, outcome }))
        }
        None if in_guest => plain_host_name(subject).map(Entry::LookedUp),
        None => None,
    }
}

fn target(subject: &str) -> Option<Target> {
    let (host, port) = subject.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Target::new(host, port.parse().ok()?).ok()
}

/// The hint at a reason's end says whether an address in the way is private. A hint at another host is none.
fn remedy(target: &Target, reason: &str) -> Option<Remedy> {
    let (_, hint) = reason.rsplit_once("; hint: ")?;
    let (flag, rule) = hint.split_once(' ')?;
    let rule: HostRule = rule.parse().ok()?;
    let exact = target.exact_rule();
    let private = match &target.host {
        Host::Address(address) => is_inside(*address)?,
        Host::Name(_) | Host::Own => flag == "--allow-private",
    };
    let rule = match &rule.host {
        own if *own == exact.host => exact,
        HostPattern::Net(_) if private => HostRule { port: exact.port, ..rule },
        _ => return None,
    };
    Some(Remedy { rule, private })
}

/// Whether an address needs a rule for private ones; none where no rule helps.
fn is_inside(address: IpAddr) -> Option<bool> {
    match Realm::of(address) {
        Realm::Public => Some(false),
        Realm::Private | Realm::Link => Some(true),
        Realm::Loopback | Realm::Reserved => None,
    }
}

fn path(rest: &str) -> Option<TriedPath> {
    let (path, told) = rest.rsplit_once(": ")?;
    let (how, found) = told.strip_suffix(" parts exist")?.split_once(", ")?;
    let path = match path.strip_prefix('"') {
        Some(quoted) => unescape(quoted.strip_suffix('"')?)?,
        None => path.to_owned(),
    };
    let found = found.parse().ok()?;
    Some(TriedPath { path, found, written: how == "written", named: how == "named" })
}

/// What `char::escape_default` wrote.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        plain.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'u' => {
                    let code: String =
                        chars.by_ref().skip(1).take_while(|digit| *digit != '}').collect();
                    char::from_u32(u32::from_str_radix(&code, 16).ok()?)?
                }
                other => other,
            },
            other => other,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::super::log::Escaped;
    use super::*;

    fn told(line: &str) -> Option<Entry> {
        entries(&format!("2026-11-26T12:00:00Z {line}\n")).next()
    }

    fn host(host: &str, port: u16, outcome: Outcome) -> Option<Entry> {
        let target = Target::new(host, port).unwrap();
        Some(Entry::Host(Attempt { target, outcome }))
    }

    fn refused(rule: &str, private: bool) -> Outcome {
        Outcome::Refused(Some(Remedy { rule: rule.parse().unwrap(), private }))
    }

    #[test]
    fn every_kind_of_line_is_read_back() {
        let line = "allowed api.example.com:443 203.0.113.7 sent 1 received 2 in 0.1 s";
        assert_eq!(told(line), host("api.example.com", 443, Outcome::Allowed));
        let line = "allowed [2001:db8::1]:443 via proxy.lan:3128 sent 0 received 0 in 0.1 s";
        assert_eq!(told(line), host("2001:db8::1", 443, Outcome::Allowed));
        let line = "failed api.example.com:22: connection refused";
        assert_eq!(told(line), host("api.example.com", 22, Outcome::Failed));
        let line = "refused a.example:443: no rule allows it; hint: --allow a.example";
        assert_eq!(told(line), host("a.example", 443, refused("a.example:443", false)));
        let line = "refused evil.com in the guest: it looked up what it may not reach";
        assert_eq!(told(line), Some(Entry::LookedUp("evil.com".into())));
        for line in ["refused -: a request can't be read: x", "the log has reached 4 MiB", "", "x"]
        {
            assert_eq!(told(line), None, "{line}");
        }
    }

    #[test]
    fn a_private_address_needs_a_rule_of_its_own_kind() {
        let line =
            "refused nas.lan:445: 10.1.2.3 is a private address; hint: --allow-private nas.lan:445";
        assert_eq!(told(line), host("nas.lan", 445, refused("nas.lan:445", true)));
        let line = "refused 10.1.2.3:22 in the guest: no rule allows it; hint: --allow 10.1.2.3:22";
        assert_eq!(told(line), host("10.1.2.3", 22, refused("10.1.2.3:22", true)));
        let line =
            "refused 127.0.0.2:22 in the guest: no rule allows it; hint: --allow 127.0.0.2:22";
        assert_eq!(told(line), host("127.0.0.2", 22, Outcome::Refused(None)));
        let line = "refused meta.example:80: 169.254.169.254 is a link-local or metadata address; \
                    hint: --allow-private 169.254.169.254";
        assert_eq!(told(line), host("meta.example", 80, refused("169.254.169.254:80", true)));
    }

    #[test]
    fn a_hint_that_the_guest_wrote_grants_nothing_else() {
        let line = "refused a.example:443: it asked for x; hint: --allow evil.example";
        assert_eq!(told(line), host("a.example", 443, Outcome::Refused(None)));
    }

    #[test]
    fn paths_survive_whatever_is_in_them() {
        for path in ["/home/me/a", "/a b/\"c\"\\d", "/\u{202e}\n: read, 9 parts exist", "/ü"] {
            let line = format!("tried {}: written, 1 parts exist", Escaped(path));
            let expected =
                TriedPath { path: path.to_owned(), found: 1, written: true, named: false };
            assert_eq!(told(&line), Some(Entry::Path(expected)), "{line}");
        }
    }
}
