//! The system calls that a VMM may make. Every other does not exist for it: the kernel answers
//! ENOSYS, upon which C libraries and VMMs fall back to an older call, where EPERM would end them.
//!
//! A list of what is allowed, not of what is forbidden: calls that a later kernel brings stay out.
//! It holds what QEMU 7.2 and Firecracker were seen to call, and the variants of the same calls
//! that other C libraries and other versions use for the same purpose. What matters is absent: new
//! processes and namespaces, sockets and connections, signals to others, mounts, tracing, keys,
//! BPF, io_uring, handles, other users' identities.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};
use serde::{Deserialize, Serialize};

/// Whose calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Calls {
    Qemu,
    Firecracker,
    /// osvm's own server of a folder.
    Share,
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;
type Result<T> = std::result::Result<T, BackendError>;

impl Calls {
    /// The filter for a process with that pid, as it sees itself.
    pub(super) fn filter(self, pid: u32) -> Result<BpfProgram> {
        let mut rules: Rules = ANY.iter().map(|&call| (call, Vec::new())).collect();
        rules.extend(threads(pid)?);
        rules.extend(narrowed()?);
        match self {
            Self::Qemu => {}
            Self::Firecracker => rules.extend(unix_sockets()?),
            Self::Share => rules.extend(files()?),
        }
        let denied = SeccompAction::Errno(libc::ENOSYS as u32);
        let target = TargetArch::try_from(std::env::consts::ARCH)?;
        SeccompFilter::new(rules, denied, SeccompAction::Allow, target)?.try_into()
    }
}

/// New threads, no new processes; signals to threads of its own only. `clone3` is absent: its flags
/// lie in memory, where no filter can see them.
fn threads(pid: u32) -> Result<Rules> {
    const THREAD: u64 = (libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND) as u64;
    let thread = condition(0, SeccompCmpOp::MaskedEq(THREAD), THREAD)?;
    let own = || condition(0, SeccompCmpOp::Eq, pid.into());
    Ok(BTreeMap::from([
        (libc::SYS_clone, vec![SeccompRule::new(vec![thread])?]),
        (libc::SYS_tgkill, vec![SeccompRule::new(vec![own()?])?]),
        (libc::SYS_kill, vec![SeccompRule::new(vec![own()?])?]),
    ]))
}

/// Calls that do many things by an argument.
fn narrowed() -> Result<Rules> {
    Ok(BTreeMap::from([
        (libc::SYS_fcntl, one_of(1, FCNTL)?),
        (libc::SYS_prctl, one_of(0, PRCTL)?),
        (libc::SYS_ioctl, vec![none_of(1, NO_IOCTL)?]),
    ]))
}

/// Firecracker makes its own sockets in its folder, and connects to the daemon's there. A C library
/// other than glibc ends and kicks threads by `tkill`, whose argument says nothing of the process;
/// Firecracker's own filter knows with which signals.
fn unix_sockets() -> Result<Rules> {
    let unix = condition(0, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?;
    let any = |call| (call, Vec::new());
    let mut rules = BTreeMap::from([libc::SYS_bind, libc::SYS_connect, libc::SYS_tkill].map(any));
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![unix])?]);
    Ok(rules)
}

/// No file that runs as another user is made of one.
fn files() -> Result<Rules> {
    const OTHERS: u64 = (libc::S_ISUID | libc::S_ISGID) as u64;
    let mut rules: Rules = SHARE.iter().map(|&call| (call, Vec::new())).collect();
    for (call, mode) in [(libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2), (libc::SYS_mknodat, 2)] {
        let plain = condition(mode, SeccompCmpOp::MaskedEq(OTHERS), 0)?;
        rules.insert(call, vec![SeccompRule::new(vec![plain])?]);
    }
    Ok(rules)
}

/// What is done to files besides reading and writing them. The socket it is reached by is inherited.
const SHARE: &[c_long] = &[
    libc::SYS_accept4,
    libc::SYS_copy_file_range,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_openat2,
    libc::SYS_recvfrom,
    libc::SYS_renameat2,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>> {
    let equals = |&value| SeccompRule::new(vec![condition(argument, SeccompCmpOp::Eq, value)?]);
    values.iter().map(equals).collect()
}

fn none_of(argument: u8, values: &[u64]) -> Result<SeccompRule> {
    let differs = |&value| condition(argument, SeccompCmpOp::Ne, value);
    SeccompRule::new(values.iter().map(differs).collect::<Result<_>>()?)
}

fn condition(argument: u8, compare: SeccompCmpOp, value: u64) -> Result<SeccompCondition> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value)
}

/// Not F_SETOWN and F_SETSIG, which have signals sent to others.
const FCNTL: &[u64] = &[
    libc::F_DUPFD as u64,
    libc::F_GETFD as u64,
    libc::F_SETFD as u64,
    libc::F_GETFL as u64,
    libc::F_SETFL as u64,
    libc::F_GETLK as u64,
    libc::F_SETLK as u64,
    libc::F_SETLKW as u64,
    libc::F_OFD_GETLK as u64,
    libc::F_OFD_SETLK as u64,
    libc::F_OFD_SETLKW as u64,
    libc::F_DUPFD_CLOEXEC as u64,
    libc::F_ADD_SEALS as u64,
    libc::F_GET_SEALS as u64,
];

const PRCTL: &[u64] = &[
    libc::PR_GET_DUMPABLE as u64,
    libc::PR_SET_DUMPABLE as u64,
    libc::PR_SET_NAME as u64,
    libc::PR_GET_NAME as u64,
    libc::PR_SET_SECCOMP as u64,
    libc::PR_CAPBSET_READ as u64,
    libc::PR_SET_TIMERSLACK as u64,
    libc::PR_SET_NO_NEW_PRIVS as u64,
    libc::PR_GET_NO_NEW_PRIVS as u64,
    libc::PR_SET_VMA as u64,
];

/// Typing into a terminal, and having signals sent to others.
const NO_IOCTL: &[u64] = &[libc::TIOCSTI, libc::TIOCLINUX, FIOSETOWN, SIOCSPGRP];
const FIOSETOWN: u64 = 0x8901;
const SIOCSPGRP: u64 = 0x8902;

/// Allowed with whatever arguments.
const ANY: &[c_long] = &[
    // The program's own start and end. Each VMM's own filter forbids execve before a guest runs.
    libc::SYS_execve,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_restart_syscall,
    libc::SYS_seccomp,
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mbind,
    libc::SYS_get_mempolicy,
    libc::SYS_set_mempolicy,
    // Threads and what they wait for.
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_get_robust_list,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_getcpu,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    // Time.
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    // Who and where it is.
    libc::SYS_getcwd,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_prlimit64,
    libc::SYS_sysinfo,
    libc::SYS_times,
    libc::SYS_uname,
    // Files. Which ones is not a filter's to say.
    libc::SYS_chdir,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_umask,
    libc::SYS_write,
    libc::SYS_writev,
    // Events.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_signalfd4,
    // Sockets it was given; it can make none.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_listen,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    // The same by older numbers, which only this architecture has.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_create,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_eventfd,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getrlimit,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_pipe,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_made_and_fits_the_kernels_limit() {
        for calls in [Calls::Qemu, Calls::Firecracker] {
            let filter = calls.filter(1).unwrap();
            assert!(filter.len() < libc::BPF_MAXINSNS as usize, "{}", filter.len());
        }
    }

    #[test]
    fn what_reaches_beyond_the_process_is_not_on_the_list() {
        let absent = [
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_clone3,
            libc::SYS_execveat,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mount,
            libc::SYS_move_mount,
            libc::SYS_open_tree,
            libc::SYS_bpf,
            libc::SYS_io_uring_setup,
            libc::SYS_keyctl,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_open_by_handle_at,
            libc::SYS_pidfd_open,
            libc::SYS_pidfd_getfd,
            libc::SYS_tkill,
            libc::SYS_setuid,
        ];
        for call in absent {
            assert!(!ANY.contains(&call), "{call}");
        }
    }
}
