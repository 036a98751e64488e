//! The filter that a process starts under: calls that take a path wait until the agent has looked at them.

use std::io;
use std::mem::{MaybeUninit, offset_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

use super::calls::{CALLS, OLD_CALLS};

/// Where calls of a process and of all that it starts can be heard.
pub(crate) struct Watched(pub(super) OwnedFd);

/// The way from a new process, which makes the filter, to the agent, which listens.
pub(crate) struct Handover {
    ours: OwnedFd,
    theirs: OwnedFd,
    filter: Vec<libc::sock_filter>,
}

const ROOM: usize = rustix::cmsg_space!(ScmRights(1));

impl Handover {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        Ok(Self { ours, theirs, filter: program() })
    }

    /// The new process's part, which can't be undone. It makes system calls only. On a kernel that has no such filter
    /// nothing is done, and nothing received.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let Ok(listener) = install(&self.filter) else { return Ok(()) };
        send(self.theirs.as_fd(), listener.as_fd())
    }

    /// The agent's part, once the process has done its own.
    pub(crate) fn receive(&self) -> io::Result<Watched> {
        let mut room = [MaybeUninit::uninit(); ROOM];
        let mut rights = RecvAncillaryBuffer::new(&mut room);
        let mut byte = [0];
        let buffers = &mut [io::IoSliceMut::new(&mut byte)];
        recvmsg(&self.ours, buffers, &mut rights, RecvFlags::CMSG_CLOEXEC)?;
        let received = rights.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        received.map(Watched).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

fn send(to: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut rights = SendAncillaryBuffer::new(&mut room);
    let descriptors = [descriptor];
    rights.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(to, &[io::IoSlice::new(b"0")], &mut rights, SendFlags::empty())?;
    Ok(())
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = libc::EM_X86_64 as u32 | 0xC000_0000;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = libc::EM_AARCH64 as u32 | 0xC000_0000;

/// Calls in another form than the processor's own are not looked at.
fn program() -> Vec<libc::sock_filter> {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W};
    let step = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |offset: usize| step(BPF_LD | BPF_W | BPF_ABS, offset as u32);
    let unless_equal_skip_one = |k: u32| {
        let code = (BPF_JMP | BPF_JEQ | BPF_K) as u16;
        libc::sock_filter { code, jt: 0, jf: 1, k }
    };
    let allow = step(BPF_RET | BPF_K, libc::SECCOMP_RET_ALLOW);
    let notify = step(BPF_RET | BPF_K, libc::SECCOMP_RET_USER_NOTIF);
    let if_equal_skip_one = |k: u32| libc::sock_filter { jt: 1, jf: 0, ..unless_equal_skip_one(k) };
    let mut steps = vec![
        load(offset_of!(libc::seccomp_data, arch)),
        if_equal_skip_one(ARCHITECTURE),
        allow,
        load(offset_of!(libc::seccomp_data, nr)),
    ];
    for call in CALLS.iter().chain(OLD_CALLS) {
        steps.extend([unless_equal_skip_one(call.number as u32), notify]);
    }
    steps.push(allow);
    steps
}

fn install(filter: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the kernel reads a sock_fprog and the `len` steps that it points to; both outlive the call, and it writes
    // neither.
    let descriptor = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
            &raw const program,
        )
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}
