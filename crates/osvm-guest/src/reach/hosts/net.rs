//! An address or a network of addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Net {
    pub(super) address: IpAddr,
    pub(super) prefix: u8,
}

impl Net {
    /// `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32`; bits beyond the prefix are cleared.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let longest = length(address);
        let prefix = prefix.unwrap_or(longest);
        (prefix <= longest).then(|| Self { address: masked(address, prefix), prefix })
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }

    /// Every address, if there are no more than `most`.
    pub(super) fn few(&self, most: u128) -> Option<Vec<IpAddr>> {
        let count = 1u128.checked_shl(u32::from(length(self.address) - self.prefix))?;
        (count <= most).then(|| (0..count).map(|index| from_bits(self.address, index)).collect())
    }
}

fn length(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// The address `index` after the first of a network, which has that many.
fn from_bits(first: IpAddr, index: u128) -> IpAddr {
    match first {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() | index as u32).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | index).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Net {
        Net::parse(text).unwrap()
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let holds = |text, address: &str| net(text).contains(address.parse().unwrap());
        assert!(holds("192.0.2.7", "192.0.2.7") && !holds("192.0.2.7", "192.0.2.8"));
        assert!(holds("192.0.2.0/24", "192.0.2.255") && !holds("192.0.2.0/24", "192.0.3.0"));
        assert!(holds("2001:db8::/32", "2001:db8:1::9") && !holds("2001:db8::/32", "2001:db9::"));
        assert!(holds("0.0.0.0/0", "8.8.8.8") && !holds("0.0.0.0/0", "::1"));
        assert!(holds("::/0", "::1"));
    }

    #[test]
    fn only_small_networks_are_counted_out() {
        let last = |text| net(text).few(256).map(|all| (all.len(), all[all.len() - 1].to_string()));
        assert_eq!(last("192.0.2.7"), Some((1, "192.0.2.7".into())));
        assert_eq!(last("192.0.2.0/24"), Some((256, "192.0.2.255".into())));
        assert_eq!(last("2001:db8::f0/124"), Some((16, "2001:db8::ff".into())));
        assert_eq!(last("192.0.2.0/23"), None);
        assert_eq!(last("::/0"), None);
    }

    #[test]
    fn what_is_no_network_is_none() {
        for text in ["", "a.example", "192.0.2", "192.0.2.0/33", "::/129", "::1/x", "1.2.3.4/"] {
            assert_eq!(Net::parse(text), None, "{text}");
        }
    }
}
