//! Handles: what the guest has opened and not released.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::{Held, locked};

/// An open file or folder.
#[derive(Debug)]
pub(crate) struct Handle {
    file: OwnedFd,
    /// Its attributes are asked for by the node, also when its name is gone.
    _node: Held,
    /// Held while a folder is read: where it is read lies in the descriptor.
    pub(crate) listing: Mutex<()>,
}

impl Handle {
    pub(crate) fn new(file: OwnedFd, node: Held) -> Self {
        Self { file, _node: node, listing: Mutex::default() }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[derive(Debug)]
pub(crate) struct Handles {
    open: Mutex<Open>,
    most: usize,
}

#[derive(Debug, Default)]
struct Open {
    by_number: HashMap<u64, Arc<Handle>>,
    last: u64,
}

impl Handles {
    pub(crate) fn new(most: usize) -> Self {
        Self { open: Mutex::default(), most }
    }

    pub(crate) fn get(&self, number: u64) -> Result<Arc<Handle>, Errno> {
        locked(&self.open).by_number.get(&number).cloned().ok_or(Errno::BADF)
    }

    pub(crate) fn add(&self, file: OwnedFd, node: Held) -> Result<u64, Errno> {
        let open = &mut *locked(&self.open);
        if open.by_number.len() >= self.most {
            return Err(Errno::NFILE);
        }
        open.last += 1;
        open.by_number.insert(open.last, Arc::new(Handle::new(file, node)));
        Ok(open.last)
    }

    pub(crate) fn release(&self, number: u64) {
        locked(&self.open).by_number.remove(&number);
    }

    pub(crate) fn clear(&self) {
        locked(&self.open).by_number.clear();
    }
}
