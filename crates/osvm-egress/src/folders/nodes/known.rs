//! Nodes by their numbers and by their files, and which of them are held.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::{Identity, Most, Node, locked};

#[derive(Debug)]
pub(super) struct Known {
    by_number: HashMap<u64, Lookups>,
    by_identity: HashMap<Identity, u64>,
    /// Those that have a descriptor.
    held: BTreeSet<u64>,
    /// The one that was asked last whether it can do without.
    hand: u64,
    last: u64,
}

#[derive(Debug)]
struct Lookups {
    node: Arc<Node>,
    count: u64,
}

impl Known {
    /// The first gets the number after `last`.
    pub(super) fn new(last: u64) -> Self {
        let (by_number, by_identity) = (HashMap::new(), HashMap::new());
        Self { by_number, by_identity, held: BTreeSet::new(), hand: 0, last }
    }

    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn get(&self, number: u64) -> Option<Arc<Node>> {
        self.by_number.get(&number).map(|found| Arc::clone(&found.node))
    }

    pub(super) fn find(&self, identity: Identity) -> Option<Arc<Node>> {
        self.get(*self.by_identity.get(&identity)?)
    }

    pub(super) fn enter(&mut self, new: Node, most: Most) -> Result<u64, Errno> {
        if let Some(&number) = self.by_identity.get(&new.identity)
            && let Some(found) = self.by_number.get_mut(&number)
        {
            found.count += 1;
            found.node.seen_in(new.zone());
            *locked(&found.node.way) = locked(&new.way).clone();
            return Ok(number);
        }
        if self.len() >= most.known {
            return Err(Errno::NFILE);
        }
        self.make_room(most.held)?;
        self.last += 1;
        self.held.insert(self.last);
        self.by_identity.insert(new.identity, self.last);
        self.by_number.insert(self.last, Lookups { node: Arc::new(new), count: 1 });
        Ok(self.last)
    }

    pub(super) fn forget(&mut self, number: u64, count: u64) {
        let Entry::Occupied(mut found) = self.by_number.entry(number) else { return };
        found.get_mut().count = found.get().count.saturating_sub(count);
        if found.get().count == 0 {
            let gone = found.remove();
            self.by_identity.remove(&gone.node.identity);
            self.held.remove(&number);
        }
    }

    /// It has this descriptor from now on, unless it has got one meanwhile.
    pub(super) fn hold(
        &mut self,
        number: u64,
        node: &Node,
        file: OwnedFd,
        most: usize,
    ) -> Result<Arc<OwnedFd>, Errno> {
        if !self.held.contains(&number) && self.by_number.contains_key(&number) {
            self.make_room(most)?;
            self.held.insert(number);
        }
        Ok(Arc::clone(locked(&node.file).get_or_insert_with(|| Arc::new(file))))
    }

    /// Goes round: whoever was used since it was last asked is asked again later.
    fn make_room(&mut self, most: usize) -> Result<(), Errno> {
        for _ in 0..=2 * self.held.len() {
            if self.held.len() < most {
                return Ok(());
            }
            self.ask_next();
        }
        Err(Errno::NFILE)
    }

    fn ask_next(&mut self) {
        let next = self.held.range(self.hand + 1..).next().or_else(|| self.held.first());
        self.hand = next.copied().unwrap_or(0);
        let Some(Lookups { node, .. }) = self.by_number.get(&self.hand) else { return };
        if !node.was_used() && node.let_go() {
            self.held.remove(&self.hand);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new(self.last);
    }
}
