//! The fake address of each name: the same for as long as the VM lives, so that programs may keep it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// What `lo` is given. With the address comes that all of 198.18.0.0/15, which is for benchmarks and nobody's
/// own (RFC 2544), is local. It has to be an address: where there is only a route, glibc thinks that the machine has
/// no IPv4 at all and looks no addresses up.
pub(super) const OWN: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 18, 0, 1), 15);

/// Most names. Each has a listener for every port; a wildcard would let a process ask for more and more.
pub(super) const MAX_NAMES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Names {
    by_name: BTreeMap<String, Ipv4Addr>,
    /// In the order of their addresses.
    names: Vec<String>,
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<Ipv4Addr> {
        self.by_name.get(name).copied()
    }

    /// The address that the next name gets; none once there are too many.
    pub(super) fn next(&self) -> Option<Ipv4Addr> {
        (self.names.len() < MAX_NAMES).then(|| address(self.names.len()))
    }

    /// Gives `name` the next address.
    pub(super) fn insert(&mut self, name: &str) {
        self.by_name.insert(name.to_owned(), address(self.names.len()));
        self.names.push(name.to_owned());
    }

    pub(super) fn name(&self, address: Ipv4Addr) -> Option<&str> {
        let [198, 18, high, low] = address.octets() else { return None };
        let index = usize::from(high.checked_sub(1)?) * EACH + usize::from(low.checked_sub(1)?);
        (low <= EACH as u8).then(|| self.names.get(index).map(String::as_str))?
    }
}

/// Whether an address is from the network of fake ones.
pub(super) fn is_fake(address: Ipv4Addr) -> bool {
    let ([first, second, ..], [own_first, own_second, ..]) = (address.octets(), OWN.0.octets());
    first == own_first && second & !1 == own_second
}

/// Addresses in each 256: some programs take .0 and .255 for networks.
const EACH: usize = 254;

/// From 198.18.1.1 on.
fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, (1 + index / EACH) as u8, (1 + index % EACH) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_one_address_and_is_found_by_it() {
        let mut names = Names::default();
        for index in 0..600 {
            names.insert(&format!("n{index}.example"));
        }
        for index in 0..600 {
            let name = format!("n{index}.example");
            let address = names.get(&name).unwrap();
            assert_eq!(names.name(address), Some(name.as_str()));
            assert!(!matches!(address.octets()[3], 0 | 255));
        }
        let unknown: [Ipv4Addr; 4] =
            [OWN.0, [198, 18, 1, 255].into(), [198, 19, 1, 1].into(), [198, 18, 9, 9].into()];
        for address in unknown {
            assert_eq!(names.name(address), None);
        }
    }

    #[test]
    fn there_are_no_more_than_so_many() {
        let mut names = Names::default();
        for index in 0..MAX_NAMES {
            assert!(names.next().is_some());
            names.insert(&format!("n{index}.example"));
        }
        assert_eq!(names.next(), None);
    }
}
