//! Inodes and directories, in the bytes of squashfs 4.0.

use super::data::Content;
use super::metadata::Place;
use super::xattrs;

/// What every inode says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    pub(super) permissions: u16,
    /// Places in the table of owners.
    pub(super) uid: u16,
    pub(super) gid: u16,
    pub(super) mtime: u32,
    pub(super) number: u32,
    /// Place of its extended attributes.
    pub(super) xattrs: u32,
}

/// Types of inodes; directories name only these, also for the extended ones.
pub(super) const FOLDER: u16 = 1;
pub(super) const FILE: u16 = 2;
pub(super) const SYMLINK: u16 = 3;
/// Added to a type for the inode with more fields.
const EXTENDED: u16 = 7;

const NO_FRAGMENT: u32 = u32::MAX;

impl Common {
    fn header(&self, kind: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        for field in [kind, self.permissions, self.uid, self.gid] {
            bytes.extend(field.to_le_bytes());
        }
        for field in [self.mtime, self.number] {
            bytes.extend(field.to_le_bytes());
        }
        bytes
    }
}

pub(super) fn symlink(common: &Common, target: &[u8]) -> Vec<u8> {
    let extended = common.xattrs != xattrs::NONE;
    let mut inode = common.header(if extended { SYMLINK + EXTENDED } else { SYMLINK });
    let length = u32::try_from(target.len()).expect("a path is short");
    inode.extend(1_u32.to_le_bytes());
    inode.extend(length.to_le_bytes());
    inode.extend_from_slice(target);
    if extended {
        inode.extend(common.xattrs.to_le_bytes());
    }
    inode
}

/// Short where that says everything, as the kernel's own tools do it.
pub(super) fn file(common: &Common, size: u64, links: u32, content: &Content) -> Vec<u8> {
    let plain = links == 1 && content.sparse == 0 && common.xattrs == xattrs::NONE;
    let mut inode = match (u32::try_from(content.start), u32::try_from(size)) {
        (Ok(start), Ok(size)) if plain => short_file(common, start, size, content),
        _ => extended_file(common, size, links, content),
    };
    inode.extend(content.blocks.iter().flat_map(|size| size.to_le_bytes()));
    inode
}

fn short_file(common: &Common, start: u32, size: u32, content: &Content) -> Vec<u8> {
    let (fragment, offset) = content.fragment.unwrap_or((NO_FRAGMENT, 0));
    let mut inode = common.header(FILE);
    for field in [start, fragment, offset, size] {
        inode.extend(field.to_le_bytes());
    }
    inode
}

fn extended_file(common: &Common, size: u64, links: u32, content: &Content) -> Vec<u8> {
    let (fragment, offset) = content.fragment.unwrap_or((NO_FRAGMENT, 0));
    let mut inode = common.header(FILE + EXTENDED);
    for field in [content.start, size, content.sparse] {
        inode.extend(field.to_le_bytes());
    }
    for field in [links, fragment, offset, common.xattrs] {
        inode.extend(field.to_le_bytes());
    }
    inode
}

/// What a folder's inode says of its listing and its neighbours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) place: Place,
    pub(super) size: usize,
    /// Folders in this one.
    pub(super) folders: u32,
    /// Number of the folder that holds it.
    pub(super) parent: u32,
}

pub(super) fn folder(common: &Common, listed: &Listed) -> Vec<u8> {
    // `.` and `..` are counted in the size, though they are not stored.
    let size = u32::try_from(listed.size + 3).expect("streams are below 4 GiB");
    match u16::try_from(size) {
        Ok(size) if common.xattrs == xattrs::NONE => short_folder(common, size, listed),
        _ => extended_folder(common, size, listed),
    }
}

fn short_folder(common: &Common, size: u16, listed: &Listed) -> Vec<u8> {
    let mut inode = common.header(FOLDER);
    inode.extend(listed.place.block.to_le_bytes());
    inode.extend((listed.folders + 2).to_le_bytes());
    inode.extend(size.to_le_bytes());
    inode.extend(listed.place.offset.to_le_bytes());
    inode.extend(listed.parent.to_le_bytes());
    inode
}

fn extended_folder(common: &Common, size: u32, listed: &Listed) -> Vec<u8> {
    let mut inode = common.header(FOLDER + EXTENDED);
    for field in [listed.folders + 2, size, listed.place.block, listed.parent] {
        inode.extend(field.to_le_bytes());
    }
    // No index into the listing.
    inode.extend(0_u16.to_le_bytes());
    inode.extend(listed.place.offset.to_le_bytes());
    inode.extend(common.xattrs.to_le_bytes());
    inode
}

/// A name in a listing, and the inode that it means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) name: &'a [u8],
    pub(super) kind: u16,
    pub(super) number: u32,
    pub(super) place: Place,
}

/// Names share a header while their inodes lie in one block and their numbers are near.
const MAX_RUN: usize = 256;

/// The listing of a folder; the names come in their order.
pub(super) fn listing(names: &[Name<'_>]) -> Vec<u8> {
    let mut listing = Vec::new();
    let mut rest = names;
    while let Some(first) = rest.first() {
        let near = |name: &&Name<'_>| {
            name.place.block == first.place.block && delta(first, name).is_some()
        };
        let run = rest.iter().take(MAX_RUN).take_while(near).count();
        let (names, later) = rest.split_at(run);
        put_run(&mut listing, first, names);
        rest = later;
    }
    listing
}

fn delta(first: &Name<'_>, name: &Name<'_>) -> Option<i16> {
    i16::try_from(i64::from(name.number) - i64::from(first.number)).ok()
}

fn put_run(listing: &mut Vec<u8>, first: &Name<'_>, names: &[Name<'_>]) {
    let count = u32::try_from(names.len() - 1).expect("at most 256");
    for field in [count, first.place.block, first.number] {
        listing.extend(field.to_le_bytes());
    }
    for name in names {
        let delta = delta(first, name).expect("names of a run are near");
        let length = u16::try_from(name.name.len() - 1).expect("a file's name is short");
        listing.extend(name.place.offset.to_le_bytes());
        listing.extend(delta.to_le_bytes());
        listing.extend(name.kind.to_le_bytes());
        listing.extend(length.to_le_bytes());
        listing.extend_from_slice(name.name);
    }
}
