//! Looks at the calls of one session's processes, one after the other, and lets each go on.

use std::fs::File;
use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::calls::{self, Mode};
use super::filter::Watched;
use super::note::Notes;
use crate::console::say;

/// Longest path that is looked at: the kernel takes no longer ones.
const LONGEST: usize = 4096;

/// A process's memory ends between pages only.
const PAGE: usize = 4096;

/// Until no process of the session is left.
pub(super) fn start(watched: Watched, notes: Arc<Notes>) {
    let listen = move || {
        while let Some(call) = next(&watched.0) {
            if let Some((path, written)) = look(&call) {
                notes.asked_for(&path, written);
            }
            go_on(&watched.0, call.id);
        }
    };
    if let Err(error) = thread::Builder::new().name("tries".to_owned()).spawn(listen) {
        // The listener is closed: every call that it was to hear now fails, and the session with it.
        say(format_args!("failed to listen to a recorded process: {error}"));
    }
}

/// The next call that waits; none once there is nobody left to make one.
fn next(listener: &OwnedFd) -> Option<libc::seccomp_notif> {
    loop {
        let mut waiting = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut waiting, None) {
            Ok(_) if waiting[0].revents().contains(PollFlags::IN) => {}
            Err(Errno::INTR) => continue,
            _ => return None,
        }
        // SAFETY: all of it is plain numbers, for which zero is a value. The kernel wants it zeroed.
        let mut call: libc::seccomp_notif = unsafe { zeroed() };
        // SAFETY: the kernel writes one seccomp_notif, which lives here.
        let received = unsafe {
            libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut call)
        };
        match received {
            0 => return Some(call),
            // Its process was killed meanwhile.
            _ if is_passing(&io::Error::last_os_error()) => {}
            _ => return None,
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    [libc::ENOENT, libc::EINTR].iter().any(|code| error.raw_os_error() == Some(*code))
}

/// Has the kernel carry out the call. A process that is gone needs no answer.
fn go_on(listener: &OwnedFd, id: u64) {
    // SAFETY: all of it is plain numbers, for which zero is a value.
    let mut answer: libc::seccomp_notif_resp = unsafe { zeroed() };
    answer.id = id;
    answer.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32;
    // SAFETY: the kernel reads one seccomp_notif_resp, which lives here.
    unsafe {
        libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw mut answer);
    }
}

/// The path that a call is about, and whether it is to be written.
fn look(notified: &libc::seccomp_notif) -> Option<(String, bool)> {
    let call = calls::find(notified.data.nr.into())?;
    let argument = |index: usize| notified.data.args[index];
    let memory = File::open(format!("/proc/{}/mem", notified.pid)).ok()?;
    let path = read_path(&memory, argument(call.path))?;
    let written = match call.mode {
        Mode::Read => false,
        Mode::Write => true,
        Mode::Flags(index) => calls::are_for_writing(argument(index)),
        Mode::How(index) => {
            let mut flags = [0; 8];
            let count = read(&memory, argument(index), &mut flags);
            count == flags.len() && calls::are_for_writing(u64::from_ne_bytes(flags))
        }
    };
    Some((path, written))
}

/// Text up to its zero byte, page by page.
fn read_path(memory: &File, mut address: u64) -> Option<String> {
    let mut path = Vec::new();
    let mut piece = [0; PAGE];
    while path.len() < LONGEST {
        let left_of_page = PAGE - (address as usize % PAGE);
        let count = read(memory, address, &mut piece[..left_of_page]);
        let piece = &piece[..count];
        match piece.iter().position(|byte| *byte == 0) {
            Some(end) => {
                path.extend(&piece[..end]);
                return String::from_utf8(path).ok();
            }
            None if count < left_of_page => return None,
            None => path.extend(piece),
        }
        address = address.checked_add(count as u64)?;
    }
    None
}

/// How many bytes of another process's memory could be read. By its file, since lean kernels have no call for it.
fn read(memory: &File, address: u64, buffer: &mut [u8]) -> usize {
    memory.read_at(buffer, address).unwrap_or(0)
}
