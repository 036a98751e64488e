//! What the daemon gives up before it serves: it reads what guests write, and secrets pass through it. A
//! guest that took it over would find itself without network and without the kernel's rarer doors.

use std::collections::BTreeMap;

use libc::c_long;
use rustix::process::DumpableBehavior;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Before there is any other thread, which would keep its rights: no program that the daemon starts gains
/// privileges, no process of the same user reads its memory, alive or dumped, and neither it nor what it
/// starts makes the calls in [`NEVER`] or any socket but a Unix one.
pub(super) fn give_up() {
    // Kernels before 6.4 tell this by a file in /proc/self that is root's afterwards. It is read
    // once, and kept.
    rustix::param::clock_ticks_per_second();
    let given_up = rustix::thread::set_no_new_privs(true)
        .and_then(|()| rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable));
    if let Err(errno) = given_up {
        tracing::warn!(%errno, "the daemon keeps more rights than it needs");
    }
    if let Err(error) = give_up_calls() {
        tracing::warn!(%error, "the daemon may make more system calls than it needs");
    }
}

fn give_up_calls() -> Result<(), seccompiler::Error> {
    seccompiler::apply_filter(&filter()?)
}

/// A list of what is forbidden: what a VMM's shim needs to build its jail is a great deal, and a jail
/// allows little of it afterwards.
fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<_, _> = NEVER.iter().map(|&call| (call, Vec::new())).collect();
    let (compare, unix) = (SeccompCmpOp::Ne, libc::AF_UNIX as u64);
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, compare, unix)?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![other])?]);
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    let target = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, denied, target)?.try_into()
}

/// Neither the daemon nor a VMM has a use for them; to whoever breaks out they are a way on.
const NEVER: &[c_long] = &[
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_syslog,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    // The clock.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    // Where its flaws were found.
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
];

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_thread_that_gave_up_has_unix_sockets_alone() {
        // A filter is a thread's own.
        let thread = std::thread::spawn(|| {
            give_up_calls().unwrap();
            let network = TcpListener::bind("127.0.0.1:0").unwrap_err();
            let priority = rustix::process::getpriority_process(None);
            (network.kind(), UnixStream::pair().is_ok(), priority.is_ok())
        });
        assert_eq!(thread.join().unwrap(), (ErrorKind::PermissionDenied, true, true));
    }
}
