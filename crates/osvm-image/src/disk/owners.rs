//! Users and groups: a table of numbers, each once, to which inodes point.

use std::collections::HashMap;

use super::DiskError;
use super::tree::Stat;

#[derive(Default)]
pub(super) struct Owners {
    places: HashMap<u32, u16>,
    ids: Vec<u32>,
}

impl Owners {
    /// Places of a file's user and group.
    pub(super) fn places(&mut self, stat: &Stat) -> Result<(u16, u16), DiskError> {
        Ok((self.place(stat.uid)?, self.place(stat.gid)?))
    }

    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.ids.len()).expect("the count was checked")
    }

    pub(super) fn entries(&self) -> Vec<u8> {
        self.ids.iter().flat_map(|id| id.to_le_bytes()).collect()
    }

    fn place(&mut self, id: u32) -> Result<u16, DiskError> {
        if let Some(place) = self.places.get(&id) {
            return Ok(*place);
        }
        // The count, one more than the last place, has sixteen bits, too.
        let place = u16::try_from(self.ids.len()).ok().filter(|place| *place < u16::MAX);
        let place = place.ok_or(DiskError::TooMany)?;
        self.ids.push(id);
        self.places.insert(id, place);
        Ok(place)
    }
}
