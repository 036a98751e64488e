//! The folder that is lent: does what the guest asks, as far as the guard lets it. Safe calls only, each on a
//! descriptor and at most one name below it, so a path is never walked here and a link never followed.
//!
//! - A name is opened by `openat2` within its folder: not across a mount, not through any link.
//! - What is open already is opened anew, for reading or writing, by its number in `/proc/self/fd`: the same
//!   file, whatever has become of its name.
//! - What it makes belongs to this process's user, whose rights decide. The guest's users are not asked about.

mod attributes;
mod contents;
mod list;
mod names;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, RwLock};

use osvm_spec::Access;
use rustix::fs::{Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};

use super::folder::Folder;
use super::fuse::{Answer, Ask, Attributes, Entry, Letter, Malformed, NO_OPEN_SUPPORT, Owner};
use super::guard::Guard;
use super::nodes::{Handles, Most, Nodes, locked};

/// Descriptors that are left for connections, and for the moment in which a file is opened anew.
const SPARE: u64 = 64;

/// Most nodes that are known: each costs this process some hundred bytes.
const MOST_NODES: usize = 1 << 19;

/// Most descriptors, where the process may have any number: each costs about 2 KiB of the host's kernel.
const MOST_DESCRIPTORS: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Lent {
    guard: Guard,
    nodes: Nodes,
    handles: Handles,
    /// `/proc/self/fd`.
    descriptors: OwnedFd,
    owner: Mutex<Owner>,
    /// The guest reads without opening.
    opens_nothing: AtomicBool,
    /// Held alone while a name is judged and moved, together by whatever else changes names.
    names: RwLock<()>,
}

impl Lent {
    pub(crate) fn new(folder: Folder, access: Access) -> Result<Self, Errno> {
        let root = fstat(&folder.root)?;
        let host_uid = geteuid().as_raw();
        let room = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX).saturating_sub(SPARE);
        let room = room.min(MOST_DESCRIPTORS);
        let most = Most { known: MOST_NODES, held: (room / 4 * 3) as usize };
        Ok(Self {
            guard: Guard::new(access),
            nodes: Nodes::new(folder.root, &root, most),
            handles: Handles::new((room / 4) as usize),
            descriptors: folder.descriptors,
            owner: Mutex::new(Owner { host_uid, uid: host_uid, gid: host_uid }),
            opens_nothing: AtomicBool::new(false),
            names: RwLock::new(()),
        })
    }

    /// As whose the files are shown from now on.
    pub(super) fn show_as(&self, uid: u32, gid: u32) {
        let owner = &mut *locked(&self.owner);
        (owner.uid, owner.gid) = (uid, gid);
    }

    /// What is to be sent back, if anything.
    pub(crate) fn answer(&self, message: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
        let letter = Letter::parse(message)?;
        let answer = letter.ask.and_then(|ask| self.act(letter.node, ask));
        Ok(letter.wants_answer.then(|| Answer::seal(answer, letter.unique)))
    }

    fn act(&self, node: u64, ask: Ask<'_>) -> Result<Answer, Errno> {
        match ask {
            Ask::Init { major, minor, max_readahead, flags } => {
                self.begin((major, minor), max_readahead, flags)
            }
            Ask::Destroy | Ask::Interrupt => Ok(Answer::empty()),
            Ask::Forget(forgotten) => Ok(self.forget(&forgotten)),
            Ask::Lookup(name) => self.look_up(node, name),
            Ask::Attributes { handle } => self.attributes(node, handle),
            Ask::SetAttributes(set) => self.set_attributes(node, set),
            Ask::ReadLink => self.read_link(node),
            Ask::Symlink { name, target } => self.make_symlink(node, name, target),
            Ask::MakeNode { name, mode } => self.make_node(node, name, mode),
            Ask::MakeFolder { name, mode } => self.make_folder(node, name, mode),
            Ask::Remove { name } => self.remove(node, name, false),
            Ask::RemoveFolder { name } => self.remove(node, name, true),
            Ask::Rename { name, new_parent, new_name, flags } => {
                self.rename((node, name), (new_parent, new_name), flags)
            }
            Ask::Link { node: old, name } => self.link(old, node, name),
            Ask::Open(flags) => self.open(node, flags),
            Ask::OpenFolder => self.open_folder(node),
            Ask::Create { name, flags, mode } => self.create(node, name, flags, mode),
            Ask::Read { handle, offset, size } => self.read((node, handle), offset, size),
            Ask::Write { handle, offset, data } => self.write(handle, offset, data),
            Ask::List { handle, offset, size, with_entries } => {
                self.list(node, handle, (offset, size), with_entries)
            }
            Ask::Release { handle } => Ok(self.release(handle)),
            Ask::Sync { handle, data_only } => self.sync((node, handle), data_only),
            Ask::Statistics => self.statistics(node),
            Ask::GetAttribute { name, size } => self.get_attribute(node, name, size),
            Ask::SetAttribute { name, value, flags } => {
                self.set_attribute(node, name, value, flags)
            }
            Ask::ListAttributes { size } => self.list_attributes(node, size),
            Ask::RemoveAttribute { name } => self.remove_attribute(node, name),
            Ask::Access { mask } => self.access(node, mask),
            Ask::Allocate { handle, offset, length, mode } => {
                self.allocate(handle, (offset, length), mode)
            }
            Ask::Seek { handle, offset, is_hole } => self.seek((node, handle), offset, is_hole),
            Ask::Copy { from, to, length } => self.copy(from, to, length),
        }
    }

    /// A new mount: it knows nothing of what an older one has opened.
    fn begin(&self, version: (u32, u32), readahead: u32, flags: u32) -> Result<Answer, Errno> {
        self.nodes.clear();
        self.handles.clear();
        let opens_nothing = self.guard.is_read_only() && flags & NO_OPEN_SUPPORT != 0;
        self.opens_nothing.store(opens_nothing, Ordering::SeqCst);
        Answer::init(version, readahead, flags)
    }

    fn forget(&self, forgotten: &[(u64, u64)]) -> Answer {
        for &(node, count) in forgotten {
            self.nodes.forget(node, count);
        }
        Answer::empty()
    }

    /// The file behind a descriptor, opened anew.
    fn reopen(&self, file: impl AsFd, flags: OFlags) -> Result<OwnedFd, Errno> {
        let number = file.as_fd().as_raw_fd().to_string();
        openat(&self.descriptors, number, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
    }

    fn shown<'a>(&self, stat: &'a Stat) -> Attributes<'a> {
        let is_passing = self.opens_nothing() && !contents::has_settled(stat);
        Attributes { stat, owner: *locked(&self.owner), is_passing }
    }

    fn entry<'a>(&self, (node, stat): &'a (u64, Stat)) -> Entry<'a> {
        Entry { node: *node, attributes: self.shown(stat) }
    }
}
