//! `cargo xtask lab -- CMD`: a command in a machine with a working KVM, on any machine. QEMU emulates
//! a processor with AMD-V, a distribution's kernel boots on it over a read-only view of this
//! machine's root file system, and whatever is written there goes with the lab.

mod initrd;
mod job;
mod kernel;
mod machine;
mod programs;
mod pulse;
mod streams;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use job::Job;
use machine::{End, Machine};

/// Run a command in an emulated machine that has KVM
///
/// The command runs as root with this environment and working directory and sees this machine's
/// files; what it writes is lost with the lab, except below `--write`. Its output comes as it is,
/// and its exit status is the lab's; 124 when the deadline came first, 75 when the machine froze.
/// Needs qemu-system-x86, busybox-static and, the first time, apt-get.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Memory of the lab, in MiB
    #[arg(long, default_value_t = 4096, value_name = "MIB")]
    memory: u32,
    /// Processors of the lab. With more than one, QEMU before 8.1 can miss a write to code that another one is
    /// translating: a kernel that patches itself, as KVM does with each VM, then panics now and then
    #[arg(long, default_value_t = 1, value_name = "N")]
    cpus: u32,
    /// Seconds until the lab is ended, command and all
    #[arg(long, default_value_t = 1200, value_name = "SECONDS")]
    deadline: u64,
    /// Folder that may be written, to bring results back
    #[arg(long, value_name = "DIR")]
    write: Vec<PathBuf>,
    /// Run the command as this user and group instead of root
    #[arg(long, value_name = "UID")]
    user: Option<u32>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// As `timeout` of the coreutils has it.
const TIMED_OUT: u8 = 124;
/// EX_TEMPFAIL of sysexits.h: to be tried again.
const FROZEN: u8 = 75;

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let kernel = kernel::get()?;
    let job = Job::here(args)?;
    let folder = tempfile::tempdir().context("make a folder for the lab's sockets")?;
    let initrd = folder.path().join("initrd");
    initrd::write(&initrd, &kernel.modules, &job.script()?)?;
    let machine = Machine {
        memory: args.memory,
        cpus: args.cpus,
        shares: &job.shares,
        kernel: &kernel.vmlinuz,
        initrd: &initrd,
        folder: folder.path(),
    };
    match machine.run(Duration::from_secs(args.deadline))? {
        End::Done(status) => Ok(ExitCode::from(status)),
        End::TooLate => {
            eprintln!("lab: ended, {} s have passed\nhint: --deadline SECONDS", args.deadline);
            Ok(ExitCode::from(TIMED_OUT))
        }
        End::Frozen => {
            let silence = pulse::SILENCE.as_secs();
            eprintln!(
                "lab: ended, it was frozen: no sign of life for {silence} s\nhint: try again"
            );
            Ok(ExitCode::from(FROZEN))
        }
    }
}
