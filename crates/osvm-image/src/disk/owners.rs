//! Users and groups: a table of numbers, each once, to which inodes point.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use super::DiskError;

pub(super) struct Owners {
    /// Of the folder itself: root on the disk.
    uid: u32,
    gid: u32,
    places: HashMap<u32, u16>,
    ids: Vec<u32>,
}

impl Owners {
    /// `root` is the folder itself.
    pub(super) fn of(root: &Metadata) -> Self {
        Self { uid: root.uid(), gid: root.gid(), places: HashMap::new(), ids: Vec::new() }
    }

    /// Places of a file's user and group.
    pub(super) fn places(&mut self, stat: &Metadata) -> Result<(u16, u16), DiskError> {
        let uid = if stat.uid() == self.uid { 0 } else { stat.uid() };
        let gid = if stat.gid() == self.gid { 0 } else { stat.gid() };
        Ok((self.place(uid)?, self.place(gid)?))
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
