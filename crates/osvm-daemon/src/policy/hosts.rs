//! From attempts at hosts to the fewest rules. A grant that was used stays as it was written; what was refused gets a
//! rule for the port that was tried, or for both of the web's when both were.

use std::collections::BTreeMap;

use osvm_egress::hosts::account::{Attempt, Entry, Outcome, Remedy};
use osvm_egress::hosts::policy::Host;
use osvm_spec::{HostPattern, HostRule, Hosts};

use super::{HostNeed, Policy, times};

/// Most rules of each kind: what a server tries is its own choice.
const MOST: usize = 256;

#[derive(Default)]
struct Tally {
    used: usize,
    failed: usize,
    refused: usize,
}

/// By the rule's text, so that the order is always the same.
#[derive(Default)]
struct Needs(BTreeMap<(String, Option<u16>), (HostRule, Tally)>);

/// All attempts, sorted by what they need.
#[derive(Default)]
struct Sorted {
    allow: Needs,
    private: Needs,
    beyond: BTreeMap<String, usize>,
    looked_up: BTreeMap<String, usize>,
    connected: std::collections::BTreeSet<String>,
}

pub(super) fn add(policy: &mut Policy, granted: &Hosts, entries: impl Iterator<Item = Entry>) {
    let mut sorted = Sorted::default();
    for entry in entries {
        match entry {
            Entry::Host(attempt) => sorted.attempt(granted, attempt),
            Entry::LookedUp(name) => *sorted.looked_up.entry(name).or_default() += 1,
            Entry::Path(_) => {}
        }
    }
    let unused = sorted.never_connected();
    policy.hosts.allow = sorted.allow.rules();
    policy.hosts.allow.extend(unused);
    policy.hosts.allow.truncate(MOST);
    policy.hosts.allow_private = sorted.private.rules();
    let beyond = sorted.beyond.into_iter().take(MOST);
    policy.beyond.extend(beyond.map(|(target, count)| {
        format!("{target} was refused {}, and no rule would have let it pass", times(count))
    }));
}

impl Sorted {
    fn attempt(&mut self, granted: &Hosts, attempt: Attempt) {
        let Attempt { target, outcome } = attempt;
        if let Host::Name(name) = &target.host {
            self.connected.insert(name.clone());
        }
        let of = |rules: &[HostRule]| rules.iter().find(|rule| target.is_of(rule)).cloned();
        match outcome {
            Outcome::Refused(Some(Remedy { rule, private })) => {
                let needs = if private { &mut self.private } else { &mut self.allow };
                needs.tally(rule).refused += 1;
            }
            Outcome::Refused(None) => *self.beyond.entry(target.to_string()).or_default() += 1,
            // It counts when it has ended.
            Outcome::Opened => {}
            Outcome::Allowed | Outcome::Failed => {
                let tally = match (of(&granted.allow_private), of(&granted.allow)) {
                    (Some(rule), _) => self.private.tally(rule),
                    (None, Some(rule)) => self.allow.tally(rule),
                    (None, None) => return,
                };
                match outcome {
                    Outcome::Allowed => tally.used += 1,
                    _ => tally.failed += 1,
                }
            }
        }
    }

    /// Names that were looked up and no more: nobody knows the port, so it is the web's.
    fn never_connected(&self) -> Vec<HostNeed> {
        let only = self.looked_up.iter().filter(|(name, _)| !self.connected.contains(*name));
        let need = |(name, count): (&String, &usize)| {
            let rule = name.parse().ok()?;
            let reason = format!("looked up {}, connected to never", times(*count));
            Some(HostNeed { rule, reason })
        };
        only.filter_map(need).collect()
    }
}

impl Needs {
    fn tally(&mut self, rule: HostRule) -> &mut Tally {
        let key = (rule.host.to_string(), rule.port);
        &mut self.0.entry(key).or_insert_with(|| (rule, Tally::default())).1
    }

    fn rules(mut self) -> Vec<HostNeed> {
        self.join_web_ports();
        let need = |(rule, tally): (HostRule, Tally)| HostNeed { rule, reason: tally.reason() };
        self.0.into_values().map(need).take(MOST).collect()
    }

    /// Two rules for the ports that a rule without a port means are that rule.
    fn join_web_ports(&mut self) {
        let [first, second] = HostRule::USUAL_PORTS;
        let is_self =
            |host: &HostPattern| matches!(host, HostPattern::Name(name) if name == HostRule::SELF);
        let hosts: Vec<_> = self.0.values().map(|(rule, _)| rule.host.clone()).collect();
        for host in hosts.into_iter().filter(|host| !is_self(host)) {
            let key = |port| (host.to_string(), Some(port));
            if !(self.0.contains_key(&key(first)) && self.0.contains_key(&key(second))) {
                continue;
            }
            let pair = [self.0.remove(&key(first)), self.0.remove(&key(second))];
            let joined = self.tally(HostRule { host, port: None });
            pair.into_iter().flatten().for_each(|(_, tally)| joined.add(&tally));
        }
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.used += other.used;
        self.failed += other.failed;
        self.refused += other.refused;
    }

    fn reason(&self) -> String {
        let parts = [
            ("used", self.used),
            ("granted, tried without success", self.failed),
            ("refused", self.refused),
        ];
        let told = parts.iter().filter(|(_, count)| *count > 0);
        told.map(|(what, count)| format!("{what} {}", times(*count))).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use osvm_egress::hosts::account::entries;

    use super::*;

    fn least(granted: &Hosts, lines: &[&str]) -> Policy {
        let log: String =
            lines.iter().map(|line| format!("2026-11-26T12:00:00Z {line}\n")).collect();
        let mut policy = Policy::default();
        add(&mut policy, granted, entries(&log));
        policy
    }

    fn shown(needs: &[HostNeed]) -> Vec<(String, &str)> {
        needs.iter().map(|need| (need.rule.to_string(), need.reason.as_str())).collect()
    }

    fn refused(target: &str) -> String {
        format!("refused {target} in the guest: no rule allows it; hint: --allow {target}")
    }

    #[test]
    fn a_host_is_allowed_on_the_ports_that_were_tried() {
        let lines = [
            "refused a.example in the guest: it looked up what it may not reach".to_owned(),
            "refused a.example:443: no rule allows it; hint: --allow a.example".to_owned(),
            "refused a.example:443: no rule allows it; hint: --allow a.example".to_owned(),
            "refused b.example:443: no rule allows it; hint: --allow b.example".to_owned(),
            "refused b.example:80: no rule allows it; hint: --allow b.example".to_owned(),
            refused("c.example:5432"),
            refused("203.0.113.7:22"),
            "refused d.example in the guest: it looked up what it may not reach".to_owned(),
        ];
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        let policy = least(&Hosts::default(), &lines);
        let expected = [
            ("203.0.113.7:22", "refused once"),
            ("a.example:443", "refused 2 times"),
            ("b.example", "refused 2 times"),
            ("c.example:5432", "refused once"),
            ("d.example", "looked up once, connected to never"),
        ];
        assert_eq!(shown(&policy.hosts.allow), expected.map(|(rule, why)| (rule.to_owned(), why)));
        assert!(policy.hosts.allow_private.is_empty() && policy.beyond.is_empty());
    }

    #[test]
    fn a_grant_is_kept_as_it_was_written_if_it_was_used() {
        let rule = |text: &str| text.parse().unwrap();
        let granted = Hosts {
            allow: vec![rule("*.example"), rule("unused.test")],
            allow_private: vec![rule("nas.lan:445")],
        };
        let policy = least(
            &granted,
            &[
                "allowed a.example:443 203.0.113.7 sent 1 received 2 in 0.1 s",
                "failed b.example:443: connection refused",
                "allowed nas.lan:445 10.1.2.3 sent 1 received 2 in 0.1 s",
            ],
        );
        let why = "used once, granted, tried without success once";
        assert_eq!(shown(&policy.hosts.allow), [("*.example".to_owned(), why)]);
        assert_eq!(shown(&policy.hosts.allow_private), [("nas.lan:445".to_owned(), "used once")]);
    }

    #[test]
    fn private_addresses_are_kept_apart_and_what_no_rule_allows_is_told() {
        let policy = least(
            &Hosts::default(),
            &[
                "refused nas.lan:445: 10.1.2.3 is a private address; hint: --allow-private nas.lan:445",
                &refused("10.1.2.3:22"),
                &refused("240.0.0.1:22"),
            ],
        );
        let rules: Vec<_> =
            shown(&policy.hosts.allow_private).into_iter().map(|(rule, _)| rule).collect();
        assert_eq!(rules, ["10.1.2.3:22", "nas.lan:445"]);
        assert!(policy.hosts.allow.is_empty());
        assert_eq!(policy.beyond.len(), 1, "{:?}", policy.beyond);
    }
}
