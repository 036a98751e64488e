//! Namespaces: what a VMM sees of the host is what it was given.

use std::fs;
use std::io;

use libc::c_int;

use super::Layer;

/// Starts a process in new namespaces, as a child of our own parent, so that it hears of its end.
/// `None` in that process; its pid in this one.
pub(super) fn start(layers: &[Layer]) -> io::Result<Option<u32>> {
    let flags = layers.iter().filter_map(|layer| flag(*layer)).fold(0, |all, flag| all | flag);
    // SAFETY: without a new stack this is fork. This process has one thread that holds no lock, so
    // its copy may go on with ordinary code.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone, flags | libc::CLONE_PARENT | libc::SIGCHLD, 0, 0, 0, 0)
    };
    match u32::try_from(pid) {
        Ok(0) => Ok(None),
        Ok(pid) => Ok(Some(pid)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Which of them to blame where they can't be had: the one by which an ordinary user has the others.
pub(super) fn key(layers: &[Layer]) -> Layer {
    if layers.contains(&Layer::UserNamespace) { Layer::UserNamespace } else { layers[0] }
}

/// Gives the user's own numbers to a new user namespace, in which nobody has one yet: under any
/// other the VMM could use none of the user's files.
pub(super) fn map_user(user: u32, group: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}

/// What `/proc/PID/ns` calls a layer's namespace.
pub(super) fn name(layer: Layer) -> Option<&'static str> {
    known(layer).map(|(name, _)| name)
}

fn flag(layer: Layer) -> Option<c_int> {
    known(layer).map(|(_, flag)| flag)
}

fn known(layer: Layer) -> Option<(&'static str, c_int)> {
    Some(match layer {
        Layer::UserNamespace => ("user", libc::CLONE_NEWUSER),
        Layer::MountNamespace => ("mnt", libc::CLONE_NEWNS),
        Layer::NetworkNamespace => ("net", libc::CLONE_NEWNET),
        Layer::PidNamespace => ("pid", libc::CLONE_NEWPID),
        Layer::IpcNamespace => ("ipc", libc::CLONE_NEWIPC),
        Layer::UtsNamespace => ("uts", libc::CLONE_NEWUTS),
        _ => return None,
    })
}
