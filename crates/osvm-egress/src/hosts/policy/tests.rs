//! What the rules allow, and how a denial says what would.

use osvm_spec::HostRuleError;
use proptest::prelude::*;

use super::*;

fn rules(texts: &[&str]) -> Vec<HostRule> {
    let parsed: Result<_, HostRuleError> = texts.iter().map(|text| text.parse()).collect();
    parsed.unwrap()
}

fn hosts(allow: &[&str], allow_private: &[&str]) -> Hosts {
    Hosts { allow: rules(allow), allow_private: rules(allow_private) }
}

fn why(rules: &Hosts, host: &str, port: u16) -> String {
    decide(rules, host, port).unwrap_err().to_string()
}

fn admits(grant: &Grant, address: &str) -> bool {
    grant.admit(address.parse().unwrap()).is_ok()
}

#[test]
fn without_rules_nothing_is_allowed_and_the_denial_says_what_would() {
    let none = Hosts::default();
    assert_eq!(why(&none, "evil.com", 443), "no rule allows it; hint: --allow evil.com");
    assert_eq!(why(&none, "evil.com", 8443), "no rule allows it; hint: --allow evil.com:8443");
    assert_eq!(why(&none, "192.0.2.7", 22), "no rule allows it; hint: --allow 192.0.2.7:22");
    let v6 = why(&none, "2001:db8::1", 22);
    assert_eq!(v6, "no rule allows it; hint: --allow [2001:db8::1]:22");
    let own = why(&none, "host.osvm.internal", 80);
    assert_eq!(own, "no rule allows it; hint: --allow host.osvm.internal:80");
}

#[test]
fn a_name_is_compared_without_its_case_and_final_dot() {
    let rules = hosts(&["api.example.com"], &[]);
    let grant = decide(&rules, "API.Example.Com.", 443).unwrap();
    assert_eq!(grant.target.host, Host::Name("api.example.com".to_owned()));
    assert!(admits(&grant, "203.0.113.7"));
}

#[test]
fn a_rule_for_other_ports_is_named_in_the_denial() {
    let rules = hosts(&["api.example.com"], &["*.example.com:5432"]);
    assert!(decide(&rules, "api.example.com", 80).is_ok());
    assert_eq!(
        why(&rules, "api.example.com", 22),
        "rules allow this host on port 80 or 443 or 5432 only; hint: --allow api.example.com:22"
    );
}

#[test]
fn an_address_is_allowed_by_networks_only_and_a_name_by_names_only() {
    let rules = hosts(&["*.0.113.7", "203.0.113.0/24"], &[]);
    assert!(decide(&rules, "203.0.113.7", 443).is_ok());
    assert!(decide(&rules, "::ffff:203.0.113.7", 443).is_ok());
    assert!(decide(&hosts(&["*.0.113.7"], &[]), "203.0.113.7", 443).is_err());
    assert!(decide(&rules, "leads.example", 443).is_err());
}

#[test]
fn a_private_address_needs_a_private_rule_even_where_a_rule_names_it() {
    let public = hosts(&["10.0.0.0/8:22"], &[]);
    assert_eq!(
        why(&public, "10.1.2.3", 22),
        "10.1.2.3 is a private address; hint: --allow-private 10.1.2.3:22"
    );
    let private = hosts(&[], &["10.0.0.0/8:22"]);
    assert!(decide(&private, "10.1.2.3", 22).is_ok());
    assert!(decide(&private, "10.1.2.3", 23).is_err());
    assert!(decide(&private, "192.168.0.1", 22).is_err());
}

#[test]
fn a_name_that_leads_to_a_private_address_is_told_from_one_that_may() {
    let addresses = ["10.0.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:10.0.0.1"];
    let public = decide(&hosts(&["db.corp:5432"], &[]), "db.corp", 5432).unwrap();
    let private = decide(&hosts(&[], &["db.corp:5432"]), "db.corp", 5432).unwrap();
    for address in addresses {
        assert!(!admits(&public, address) && admits(&private, address), "{address}");
    }
    assert!(admits(&private, "203.0.113.7"), "a private rule also allows public addresses");
    assert_eq!(
        public.admit("10.0.0.1".parse().unwrap()).unwrap_err().to_string(),
        "10.0.0.1 is a private address; hint: --allow-private db.corp:5432"
    );
}

#[test]
fn a_private_network_lets_allowed_names_lead_into_it_on_its_own_port() {
    let rules = hosts(&["db.corp:5432", "web.corp"], &["10.0.0.0/8:5432"]);
    assert!(admits(&decide(&rules, "db.corp", 5432).unwrap(), "10.0.0.1"));
    assert!(!admits(&decide(&rules, "web.corp", 443).unwrap(), "10.0.0.1"));
}

#[test]
fn metadata_is_allowed_by_its_address_alone() {
    let by_name = decide(&hosts(&[], &["meta.corp"]), "meta.corp", 80).unwrap();
    for address in ["169.254.169.254", "fd00:ec2::254", "fe80::1", "64:ff9b::a9fe:a9fe"] {
        assert!(!admits(&by_name, address), "{address}");
    }
    assert_eq!(
        by_name.admit("169.254.169.254".parse().unwrap()).unwrap_err().to_string(),
        "169.254.169.254 is a link-local or metadata address; \
         hint: --allow-private 169.254.169.254"
    );
    let by_address = hosts(&[], &["169.254.169.254"]);
    assert!(decide(&by_address, "169.254.169.254", 80).is_ok());
}

#[test]
fn the_hosts_loopback_is_reached_by_its_own_name_and_no_other() {
    let own = decide(&hosts(&["host.osvm.internal:80"], &[]), "host.osvm.internal", 80).unwrap();
    assert!(admits(&own, "127.0.0.1") && admits(&own, "::1"));
    assert!(!admits(&own, "203.0.113.7") && !admits(&own, "10.0.0.1"));
    assert_eq!(own.target.host, Host::Own);

    let wide = hosts(&["*.osvm.internal", "*.internal:5432"], &["*.osvm.internal"]);
    for port in [80, 443, 5432] {
        assert!(decide(&wide, "host.osvm.internal", port).is_err());
    }

    let rules = hosts(&[], &["127.0.0.0/8", "localhost", "::1", "0.0.0.0/8"]);
    for address in ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1"] {
        assert!(decide(&rules, address, 80).is_err(), "{address}");
    }
    let local = decide(&rules, "localhost", 80).unwrap();
    assert_eq!(
        local.admit("127.0.0.1".parse().unwrap()).unwrap_err().to_string(),
        "127.0.0.1 is the host's own loopback; hint: --allow host.osvm.internal:80"
    );
}

#[test]
fn reserved_addresses_are_allowed_by_nothing() {
    let rules = hosts(&["198.18.0.0/15"], &["198.18.0.0/15", "224.0.0.0/3", "a.example"]);
    let why = why(&rules, "198.18.0.1", 80);
    assert_eq!(why, "198.18.0.1 is a reserved address");
    assert!(!admits(&decide(&rules, "a.example", 80).unwrap(), "255.255.255.255"));
}

#[test]
fn what_is_no_host_or_port_is_refused_as_such() {
    let rules = hosts(&["a.example"], &[]);
    for host in [
        "",
        ".",
        "a b",
        "a\n",
        "a..example",
        "-a",
        "fe80::1%lo",
        "[::1]",
        "a/b",
        "999.1.1.1",
        "127.1",
        "0x7f.1",
        "é.example",
    ] {
        assert_eq!(decide(&rules, host, 80), Err(Denial::Host), "{host:?}");
    }
    assert_eq!(decide(&rules, "a.example", 0), Err(Denial::Port));
}

#[test]
fn a_target_is_shown_with_its_port() {
    for (host, shown) in [
        ("a.example", "a.example:443"),
        ("192.0.2.7", "192.0.2.7:443"),
        ("2001:db8::1", "[2001:db8::1]:443"),
        ("host.osvm.internal", "host.osvm.internal:443"),
    ] {
        assert_eq!(Target::new(host, 443).unwrap().to_string(), shown);
    }
}

fn a_name() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9-]{0,5}(\\.[a-z][a-z0-9]{0,5}){1,3}"
}

fn an_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
    ]
}

proptest! {
    #[test]
    fn the_hint_of_a_missing_rule_allows_the_host(name in a_name(), port in 1u16..) {
        let denial = decide(&Hosts::default(), &name, port).unwrap_err().to_string();
        let (_, flag) = denial.split_once("--allow ").unwrap();
        let grant = decide(&hosts(&[flag], &[]), &name, port).unwrap();
        prop_assert_eq!(grant.target, Target { host: Host::Name(name), port });
    }

    #[test]
    fn the_hint_for_a_refused_address_lets_it_pass(address in an_address(), port in 1u16..) {
        let target = Target::new(&address.to_string(), port).unwrap().rule().to_string();
        match decide(&hosts(&[&target], &[]), &address.to_string(), port) {
            Ok(_) => prop_assert!(Realm::of(address).is_public()),
            Err(denial) => {
                let text = denial.to_string();
                if let Some((_, flag)) = text.split_once("--allow-private ") {
                    let rules = hosts(&[], &[flag]);
                    prop_assert!(decide(&rules, &address.to_string(), port).is_ok());
                }
            }
        }
    }

    #[test]
    fn a_rule_allows_no_other_name_and_no_other_port(
        own in a_name(), other in a_name(), port in 1u16.., at in 1u16..
    ) {
        prop_assume!(own != other || port != at);
        let rules = hosts(&[&format!("{own}:{port}")], &[]);
        prop_assert!(decide(&rules, &other, at).is_err());
    }

    #[test]
    fn nothing_admits_loopback_but_the_hosts_own_name(name in a_name(), bits: u32) {
        let grant = decide(&hosts(&[], &[&name, "127.0.0.0/8"]), &name, 80).unwrap();
        let inner = (bits & 0x00ff_ffff) | 0x7f00_0000;
        let address = std::net::Ipv4Addr::from(inner);
        prop_assert!(grant.admit(address.into()).is_err());
        prop_assert!(grant.admit(address.to_ipv6_mapped().into()).is_err());
    }

    #[test]
    fn any_bytes_are_decided_about(host in ".{0,300}", port: u16) {
        let shown = decide(&hosts(&["a.example"], &[]), &host, port).map_err(|d| d.to_string());
        if let Err(text) = shown {
            prop_assert!(!text.contains(char::is_control));
        }
    }
}
