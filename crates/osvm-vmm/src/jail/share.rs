//! osvm itself, as the server of one folder of the user's, or of one file, in a jail beside a VMM: nothing of the host
//! is there but that.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::root::{self, Root, Workplace};
use super::user::User;
use super::{Access, Calls, Jail, JailError, Layer, Lent, Limits, Plan, Shares, Task};
use crate::Process;
use crate::process::Spawn;

/// For files and folders that the guest uses: each costs memory of the host's kernel, and others are found again.
const DESCRIPTORS: u64 = 1 << 15;

/// Of memory: what the guest has asked for and not yet got, and what is noted of each file.
const SHARES: Shares = Shares { memory_bytes: 256 << 20, processors: 1 };

/// One folder to be served, or one file, whose server works in the folder that it lies in.
#[derive(Debug)]
pub struct Share<'a> {
    /// The VM's, and the folder's among its folders.
    pub id: &'a str,
    pub number: usize,
    pub folder: &'a Path,
    pub is_read_only: bool,
    /// For its errors.
    pub log: File,
}

impl Jail {
    /// Starts the server in the folder: what osvm does under `args`, given the descriptors `give`.
    pub async fn serve_folder(
        &self,
        share: Share<'_>,
        args: Vec<OsString>,
        give: Vec<OwnedFd>,
    ) -> Result<Process, JailError> {
        self.check_required()?;
        let mut spawn = Spawn::new(self.shim().0, root::folder_of(share.folder));
        let keep: Vec<_> = give.into_iter().map(|fd| spawn.inherit(fd)).collect();
        let user = self.owner(share.folder).map_err(JailError::Talk)?;
        let plan = self.plan_of_share(&share, user, Task::Own { args }, keep);
        let group = group(share.id, share.number);
        let group = |_| self.has(Layer::ControlGroup).then_some((group, SHARES));
        let process = spawn.start_own(self, plan, group, share.log).await?;
        Ok(process.release())
    }

    /// Leaves nothing of a server that was found running when that ends.
    pub fn keep_folder(&self, id: &str, number: usize, server: &Process) {
        self.clear_after(&group(id, number), server);
    }

    fn plan_of_share(
        &self,
        share: &Share<'_>,
        user: Option<User>,
        task: Task,
        keep: Vec<i32>,
    ) -> Plan {
        let spaces = self.spaces();
        let folder = Workplace { path: share.folder.into(), is_read_only: share.is_read_only };
        let root = Root {
            places: Vec::new(),
            folder: Some(folder),
            devices: vec!["null".to_owned()],
            owner: user.map(|user| user.uid),
        };
        let access = if share.is_read_only { Access::Read } else { Access::Share };
        Plan {
            task,
            keep,
            // The user may have any number of processes elsewhere.
            limits: Limits { file_size: None, threads: None, descriptors: DESCRIPTORS },
            calls: Calls::Share,
            root: spaces.contains(&Layer::MountNamespace).then_some(root),
            spaces,
            user,
            lent: Some(vec![Lent::path(share.folder, access)]),
        }
    }

    /// Root serves a folder as the user whose folder it is: what is made in it is that user's, too.
    fn owner(&self, folder: &Path) -> std::io::Result<Option<User>> {
        let about = std::fs::metadata(folder)?;
        let user = User { uid: about.uid(), gid: about.gid() };
        Ok(Some(user).filter(|user| self.has(Layer::OwnUser) && user.uid != 0))
    }
}

/// The name of its control group.
fn group(id: &str, number: usize) -> String {
    format!("{id}-folder-{number}")
}
