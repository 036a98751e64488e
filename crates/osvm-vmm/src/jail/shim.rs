//! The shim: reads its plan, puts the layers on, becomes the VMM.
//!
//! A program of its own that has one thread and ends in `exec` or in an error.

use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{BorrowedFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::io::FdFlags;

use super::plan::Word;
use super::{Order, Plan};

/// The argument that makes osvm the shim. The number of its socket follows.
pub const WORD: &str = "vmm-jail";

/// Becomes the program of the plan that comes over descriptor `socket`. Returns only if that failed,
/// which the daemon has then been told.
pub fn enter(socket: RawFd) -> ExitCode {
    // SAFETY: the daemon opened this descriptor for us, and nothing else in this process knows it.
    let mut talk = Talk(BufReader::new(unsafe { UnixStream::from_raw_fd(socket) }));
    let Err(Failure { act, why }) = talk.follow();
    // Nobody is left to tell what can't be told here.
    let _ = talk.say(&Word::Failed { act, why });
    ExitCode::FAILURE
}

/// What could not be done, and why.
struct Failure {
    act: String,
    why: String,
}

impl Failure {
    fn of<E: Display>(act: impl Into<String>) -> impl FnOnce(E) -> Self {
        let act = act.into();
        move |error| Self { act, why: error.to_string() }
    }
}

enum Never {}

struct Talk(BufReader<UnixStream>);

impl Talk {
    fn follow(&mut self) -> Result<Never, Failure> {
        let Order::Prepare(plan) = self.hear()? else {
            return Err(Failure::of("follow the daemon")("it gave no plan"));
        };
        self.say(&Word::Born { pid: std::process::id() }).map_err(Failure::of("tell the pid"))?;
        let Order::Go = self.hear()? else {
            return Err(Failure::of("follow the daemon")("it gave two plans"));
        };
        become_program(&plan)
    }

    fn hear(&mut self) -> Result<Order, Failure> {
        let mut line = String::new();
        self.0.read_line(&mut line).map_err(Failure::of("listen to the daemon"))?;
        serde_json::from_str(&line).map_err(Failure::of("understand the daemon"))
    }

    fn say(&mut self, word: &Word) -> io::Result<()> {
        let mut line = serde_json::to_vec(word)?;
        line.push(b'\n');
        self.0.get_mut().write_all(&line)
    }
}

/// From the outermost layer to the innermost: what a layer needs to be put on, the next may forbid.
fn become_program(plan: &Plan) -> Result<Never, Failure> {
    let filter = plan.calls.filter(std::process::id());
    let filter = filter.map_err(Failure::of("make the system call filter"))?;
    keep_only(&plan.keep).map_err(Failure::of("close descriptors"))?;
    plan.limits.put_on().map_err(Failure::of("limit resources"))?;
    rustix::thread::set_no_new_privs(true).map_err(Failure::of("give up new privileges"))?;
    seccompiler::apply_filter(&filter).map_err(Failure::of("put on the system call filter"))?;
    let shown = plan.program.display();
    Err(Failure::of(format!("run {shown}"))(program(plan).exec()))
}

fn program(plan: &Plan) -> Command {
    #[expect(clippy::disallowed_methods, reason = "this is the VMM room")]
    let mut command = Command::new(&plan.program);
    command.args(&plan.args).env_clear();
    command
}

/// Every descriptor but the standard ones and these ends with exec, our socket included: that is
/// how the daemon hears of it.
fn keep_only(keep: &[RawFd]) -> io::Result<()> {
    // SAFETY: marks descriptors; closes none, and touches no memory.
    let marked = unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    if marked != 0 {
        return Err(io::Error::last_os_error());
    }
    for &fd in keep {
        // SAFETY: the daemon left this descriptor open for the program, and nothing here closes it.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
    }
    Ok(())
}
