//! The system calls that the relay process may make: memory, events, files to be read, and sockets of the
//! internet's two families. Every other does not exist for it.
//!
//! A list of what is allowed, so that calls which a later kernel brings stay out. What matters is absent: new
//! threads, processes and programs, memory that is run, files that are written, signals, tracing, keys, BPF,
//! io_uring, namespaces.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;
type Result<T> = std::result::Result<T, BackendError>;

/// Puts the filter on the calling thread, for good.
pub(super) fn give_up() -> std::result::Result<(), seccompiler::Error> {
    seccompiler::apply_filter(&filter()?)
}

fn filter() -> Result<BpfProgram> {
    let mut rules: Rules = ANY.iter().map(|&call| (call, Vec::new())).collect();
    rules.extend(sockets()?);
    rules.extend(memory()?);
    rules.extend(files()?);
    // C libraries fall back to an older call upon ENOSYS, where EPERM would end them.
    let denied = SeccompAction::Errno(libc::ENOSYS as u32);
    let target = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, denied, SeccompAction::Allow, target)?.try_into()
}

/// TCP and UDP. The runtime wakes itself by a pair of Unix sockets.
fn sockets() -> Result<Rules> {
    const KIND: SeccompCmpOp = SeccompCmpOp::MaskedEq(0xf);
    let mut allowed = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            let family = condition(0, SeccompCmpOp::Eq, family as u64)?;
            allowed.push(SeccompRule::new(vec![family, condition(1, KIND, kind as u64)?])?);
        }
    }
    let unix = condition(0, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?;
    Ok(BTreeMap::from([
        (libc::SYS_socket, allowed),
        (libc::SYS_socketpair, vec![SeccompRule::new(vec![unix])?]),
    ]))
}

/// None that could be run.
fn memory() -> Result<Rules> {
    const RUN: u64 = libc::PROT_EXEC as u64;
    let protection = || SeccompRule::new(vec![condition(2, SeccompCmpOp::MaskedEq(RUN), 0)?]);
    Ok(BTreeMap::from([
        (libc::SYS_mmap, vec![protection()?]),
        (libc::SYS_mprotect, vec![protection()?]),
    ]))
}

/// Opened to be read, and told to wait for nobody.
fn files() -> Result<Rules> {
    const WRITE: u64 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u64;
    let read = |flags| SeccompRule::new(vec![condition(flags, SeccompCmpOp::MaskedEq(WRITE), 0)?]);
    let wait = condition(1, SeccompCmpOp::Eq, libc::FIONBIO)?;
    let fcntl = |&command| SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, command)?]);
    Ok(BTreeMap::from([
        (libc::SYS_openat, vec![read(2)?]),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, vec![read(1)?]),
        (libc::SYS_ioctl, vec![SeccompRule::new(vec![wait])?]),
        (libc::SYS_fcntl, FCNTL.iter().map(fcntl).collect::<Result<_>>()?),
    ]))
}

fn condition(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)
}

const FCNTL: &[u64] = &[
    libc::F_GETFD as u64,
    libc::F_SETFD as u64,
    libc::F_GETFL as u64,
    libc::F_SETFL as u64,
    libc::F_DUPFD_CLOEXEC as u64,
];

/// Allowed with whatever arguments.
const ANY: &[c_long] = &[
    // The end.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    // Memory.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // The one thread, and its time.
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    // Files. Which ones is Landlock's to say.
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
    // Events.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    // Sockets.
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // The same by older numbers, which only this architecture has.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
];

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_thread_with_the_filter_has_sockets_of_the_internet_and_files_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let (file, socket) = (folder.path().join("file"), folder.path().join("socket"));
        fs::write(&file, "words").unwrap();
        // A filter is a thread's own.
        let thread = std::thread::spawn(move || {
            give_up().unwrap();
            let read = fs::read(&file).is_ok();
            let udp = UdpSocket::bind("127.0.0.1:0").is_ok();
            let kind = |error: io::Error| error.raw_os_error();
            let write = File::options().append(true).open(&file).map_err(kind).map(|_| ());
            let unix = UnixListener::bind(&socket).map_err(kind).map(|_| ());
            let tcp = TcpListener::bind("127.0.0.1:0").map_err(kind).map(|_| ());
            (read, udp, [write, unix, tcp])
        });
        let (read, udp, refused) = thread.join().unwrap();
        assert!(read && udp);
        assert_eq!(refused, [Err(Some(libc::ENOSYS)); 3]);
    }

    #[test]
    fn what_reaches_beyond_the_process_is_not_on_the_list() {
        let absent = [
            libc::SYS_execve,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_kill,
            libc::SYS_ptrace,
            libc::SYS_listen,
            libc::SYS_accept4,
            libc::SYS_unlinkat,
            libc::SYS_renameat2,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
            libc::SYS_unshare,
            libc::SYS_pidfd_getfd,
            libc::SYS_setuid,
        ];
        let filter = filter().unwrap();
        assert!(filter.len() < libc::BPF_MAXINSNS as usize, "{}", filter.len());
        for call in absent {
            assert!(!ANY.contains(&call), "{call}");
        }
    }
}
