//! A user of the VM's own, where the daemon is root.

use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use serde::{Deserialize, Serialize};

/// Where VMs' users begin: above the numbers that directories hand out (FreeIPA and SSSD end below
/// 2,000,200,000), below systemd's for foreign files (2,147,352,576), beside all of its other ranges.
const FIRST: u32 = 0x7800_0000;
const COUNT: u64 = 1 << 26;

/// The number of a VM's user and group. It follows from the VM's name, so nobody keeps a list; of a
/// thousand VMs at once, two share one in 1 of 134 cases, and then other layers part them.
pub(crate) fn of_vm(id: &str) -> u32 {
    // FNV-1a: any spread will do.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    FIRST + u32::try_from(hash % COUNT).expect("below COUNT")
}

/// Who a jailed process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// A user whose group has the same number.
    pub(crate) fn alone(number: u32) -> Self {
        Self { uid: number, gid: number }
    }
}

/// Becomes that user and no member of any other group.
pub(super) fn become_user(user: User) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    // Of all capabilities, none is left to a user that is not root.
    Ok(set_thread_res_uid(uid, uid, uid)?)
}

/// Leaves no capability to the program that this process becomes, even where it stays root. Ends at
/// the first number that the kernel does not know, or may not drop.
pub(super) fn give_up_capabilities() {
    // SAFETY: touches no memory.
    let dropped = |capability: libc::c_ulong| unsafe {
        libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
    };
    let _ = (0..64).take_while(|capability| dropped(*capability)).count();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_vm_has_a_user_out_of_everybodys_way() {
        let users: std::collections::BTreeSet<_> =
            (0..1000).map(|vm| of_vm(&format!("{vm:016x}"))).collect();
        assert_eq!(users.len(), 1000);
        assert!(users.iter().all(|user| (2_000_200_000..2_147_352_576).contains(user)));
    }
}
