//! What kind of network an address belongs to. Pure: what may be done about it is [`policy`](super::policy)'s.
//!
//! The tables follow IANA's special-purpose registries (RFC 6890 and its successors) and add the addresses at
//! which clouds tell a machine its own credentials.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Where a connection to an address would end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Realm {
    /// Somewhere on the internet. The documentation's networks count as it.
    Public,
    /// In the networks that an organisation gives out itself.
    Private,
    /// On the host's own link, or at the service that tells a cloud's machine its credentials.
    Link,
    /// On the host itself.
    Loopback,
    /// Nowhere that one program connects to another by TCP, or where the guest's made-up addresses are.
    Reserved,
}

impl Realm {
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => of_v4(address),
            IpAddr::V6(address) => match wrapped(address) {
                Some(inner) => of_v4(inner),
                None => of_v6(address),
            },
        }
    }

    pub fn is_public(self) -> bool {
        self == Self::Public
    }
}

/// Completes "ADDRESS is ...".
impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "a public address",
            Self::Private => "a private address",
            Self::Link => "a link-local or metadata address",
            Self::Loopback => "the host's own loopback",
            Self::Reserved => "a reserved address",
        })
    }
}

/// The first that contains the address counts.
const V4: &[(Ipv4Net, Realm)] = &[
    (v4([127, 0, 0, 0], 8), Realm::Loopback),
    // Linux connects to itself there.
    (v4([0, 0, 0, 0], 32), Realm::Loopback),
    (v4([0, 0, 0, 0], 8), Realm::Reserved),
    (v4([169, 254, 0, 0], 16), Realm::Link),
    // Metadata outside the link's network: Azure's, Alibaba's, Oracle's.
    (v4([168, 63, 129, 16], 32), Realm::Link),
    (v4([100, 100, 100, 200], 32), Realm::Link),
    (v4([192, 0, 0, 192], 32), Realm::Link),
    (v4([10, 0, 0, 0], 8), Realm::Private),
    (v4([172, 16, 0, 0], 12), Realm::Private),
    (v4([192, 168, 0, 0], 16), Realm::Private),
    // Carriers' own (RFC 6598), and some overlay networks'.
    (v4([100, 64, 0, 0], 10), Realm::Private),
    (v4([192, 0, 0, 0], 24), Realm::Reserved),
    // Benchmarks' (RFC 2544). The guest's resolver makes its addresses up there.
    (v4([198, 18, 0, 0], 15), Realm::Reserved),
    // Multicast, what was once class E, and broadcast.
    (v4([224, 0, 0, 0], 3), Realm::Reserved),
];

const V6: &[(Ipv6Net, Realm)] = &[
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Realm::Loopback),
    // Linux connects to itself there.
    (v6([0; 8], 128), Realm::Loopback),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Realm::Link),
    // Metadata: Amazon's resolver, clock and instance data; Google's.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32), Realm::Link),
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0], 64), Realm::Link),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Realm::Private),
    // What was once site-local.
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Realm::Private),
    // An organisation's own translation to version 4 (RFC 8215): its prefix says not to what.
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), Realm::Private),
    // Teredo: a version 4 address and port of somebody's choice, obfuscated.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), Realm::Reserved),
    // Benchmarks'.
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), Realm::Reserved),
    // All that was given out.
    (v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), Realm::Public),
];

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    let [a, b, c, d] = octets;
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

fn of_v4(address: Ipv4Addr) -> Realm {
    let found = V4.iter().find(|(net, _)| net.contains(&address));
    found.map_or(Realm::Public, |(_, realm)| *realm)
}

fn of_v6(address: Ipv6Addr) -> Realm {
    let found = V6.iter().find(|(net, _)| net.contains(&address));
    found.map_or(Realm::Reserved, |(_, realm)| *realm)
}

/// The version 4 address to which one of version 6 leads: mapped, compatible, by 6to4 or by NAT64.
fn wrapped(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let join = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0xffff] => Some(join(g, h)),
        // Not the loopback and the unspecified address, which are compatible with nothing.
        [0, 0, 0, 0, 0, 0] if (g, h) != (0, 0) && (g, h) != (0, 1) => Some(join(g, h)),
        [0x64, 0xff9b, 0, 0, 0, 0] => Some(join(g, h)),
        [0x2002, ..] => Some(join(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn realm(text: &str) -> Realm {
        Realm::of(text.parse().unwrap())
    }

    #[test]
    fn what_is_given_out_on_the_internet_is_public() {
        for text in [
            "1.1.1.1",
            "93.184.216.34",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
            "2002:101:101::1",
        ] {
            assert_eq!(realm(text), Realm::Public, "{text}");
        }
    }

    #[test]
    fn the_documentations_networks_are_not_private() {
        for text in ["192.0.2.1", "198.51.100.1", "203.0.113.7", "2001:db8::1"] {
            assert_eq!(realm(text), Realm::Public, "{text}");
        }
    }

    #[test]
    fn an_organisations_networks_are_private() {
        for text in [
            "10.0.0.0",
            "10.255.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.1",
            "100.64.0.0",
            "100.127.255.255",
            "fc00::1",
            "fdff::1",
            "fec0::1",
            "64:ff9b:1::1",
        ] {
            assert_eq!(realm(text), Realm::Private, "{text}");
        }
    }

    #[test]
    fn the_link_and_clouds_metadata_are_told_apart_from_private_networks() {
        for text in [
            "169.254.0.1",
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
        ] {
            assert_eq!(realm(text), Realm::Link, "{text}");
        }
    }

    #[test]
    fn the_host_itself_has_many_addresses() {
        for text in ["127.0.0.1", "127.255.255.255", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"] {
            assert_eq!(realm(text), Realm::Loopback, "{text}");
        }
    }

    #[test]
    fn what_nobody_was_given_is_reserved() {
        for text in [
            "0.0.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "::ffff:0:10.0.0.1",
            "4000::1",
        ] {
            assert_eq!(realm(text), Realm::Reserved, "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_address_in_a_wrapping_leads_where_the_bare_one_does(bits: u32) {
            let inner = Ipv4Addr::from(bits);
            let (high, low) = ((bits >> 16) as u16, bits as u16);
            let wrappings = [
                inner.to_ipv6_mapped(),
                Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
                Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            ];
            for wrapping in wrappings {
                prop_assert_eq!(Realm::of(wrapping.into()), Realm::of(inner.into()));
            }
        }

        #[test]
        fn no_private_address_is_public_by_the_standard_librarys_word(bits: u32) {
            let address = Ipv4Addr::from(bits);
            let is_special = address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || address.is_unspecified();
            prop_assert!(!(is_special && Realm::of(address.into()).is_public()));
        }

        #[test]
        fn version_6_is_public_only_where_it_was_given_out_or_is_translated(bits: u128) {
            let address = Ipv6Addr::from(bits);
            if Realm::of(address.into()).is_public() {
                let was_given_out = address.segments()[0] >> 13 == 1;
                prop_assert!(was_given_out || wrapped(address).is_some());
            }
        }
    }
}
