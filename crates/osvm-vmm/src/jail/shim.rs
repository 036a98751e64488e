//! The shim: reads its plan, puts the layers on, becomes the VMM.
//!
//! A program of its own that has one thread and ends in `exec` or in an error. Namespaces need a
//! new process, which is the daemon's child as the shim is; the shim tells its pid and ends.

use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::io::FdFlags;
use rustix::process::{getgid, getuid};

use super::plan::Word;
use super::{Layer, Order, Plan, Task, files, spaces, user};

/// The argument that makes osvm the shim. The number of its socket follows.
pub const WORD: &str = "vmm-jail";

/// What osvm itself does in a jail: by its arguments, and with the descriptors that it was given.
pub type Own = fn(&[OsString], Vec<OwnedFd>) -> ExitCode;

/// Becomes the program of the plan that comes over descriptor `socket`, or does osvm's `own`. Returns only then, and in
/// a process that is neither: the shim that has started it as another one, a trial, and a failure, of which the daemon
/// has then been told.
pub fn enter(socket: RawFd, own: Own) -> ExitCode {
    // SAFETY: the daemon opened this descriptor for us, and nothing else in this process knows it.
    let mut talk = Talk(BufReader::new(unsafe { UnixStream::from_raw_fd(socket) }));
    let (word, code) = match talk.follow() {
        Ok(Done::Started(pid)) => (Word::Born { pid }, ExitCode::SUCCESS),
        Ok(Done::Tried) => (Word::Fit, ExitCode::SUCCESS),
        Ok(Done::Own(args, given)) => {
            // As exec would have closed it.
            drop(talk);
            return own(&args, given);
        }
        Err(Failure { act, why, layer }) => (Word::Failed { act, why, layer }, ExitCode::FAILURE),
    };
    // Nobody is left to tell what can't be told here.
    let _ = talk.say(&word);
    code
}

/// How a shim ends well without being the program.
enum Done {
    /// Another process will be.
    Started(u32),
    Tried,
    /// This process is, without another program.
    Own(Vec<OsString>, Vec<OwnedFd>),
}

/// What could not be done, why, and which layer is missing therefore.
struct Failure {
    act: String,
    why: String,
    layer: Option<Layer>,
}

impl Failure {
    fn of<E: Display>(act: impl Into<String>) -> impl FnOnce(E) -> Self {
        let act = act.into();
        move |error| Self { act, why: error.to_string(), layer: None }
    }

    fn in_layer<E: Display>(layer: Layer, act: &str) -> impl FnOnce(E) -> Self {
        move |error| Self { act: act.to_owned(), why: error.to_string(), layer: Some(layer) }
    }
}

struct Talk(BufReader<UnixStream>);

impl Talk {
    fn follow(&mut self) -> Result<Done, Failure> {
        let Order::Prepare(plan) = self.hear()? else {
            return Err(Failure::of("follow the daemon")("it gave no plan"));
        };
        let (user, group) = (getuid().as_raw(), getgid().as_raw());
        if let Some(pid) = self.settle(&plan)? {
            return Ok(Done::Started(pid));
        }
        // The daemon watches us, or is gone: then so are we.
        let Order::Go = self.hear()? else {
            return Err(Failure::of("follow the daemon")("it gave two plans"));
        };
        if plan.spaces.contains(&Layer::UserNamespace) {
            let mapped = spaces::map_user(user, group);
            mapped.map_err(Failure::in_layer(Layer::UserNamespace, "keep the user's number"))?;
        }
        become_program(&plan)
    }

    /// The process that will be the program: this one, or a new one in namespaces, whose pid is
    /// returned.
    fn settle(&mut self, plan: &Plan) -> Result<Option<u32>, Failure> {
        if plan.spaces.is_empty() {
            let pid = std::process::id();
            self.say(&Word::Born { pid }).map_err(Failure::of("tell the pid"))?;
            return Ok(None);
        }
        let blamed = spaces::key(&plan.spaces);
        let pid = spaces::start(&plan.spaces);
        let pid = pid.map_err(Failure::in_layer(blamed, "start in namespaces"))?;
        if pid.is_none() {
            rustix::process::setsid().map_err(Failure::of("start a session"))?;
        }
        Ok(pid)
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
fn become_program(plan: &Plan) -> Result<Done, Failure> {
    let filter = plan.calls.filter(std::process::id());
    let filter = filter.map_err(Failure::of("make the system call filter"))?;
    keep_only(&plan.keep).map_err(Failure::of("close descriptors"))?;
    if let Some(root) = &plan.root {
        root.enter().map_err(Failure::in_layer(Layer::MountNamespace, "change the root"))?;
    }
    plan.limits.put_on().map_err(Failure::of("limit resources"))?;
    user::give_up_capabilities();
    if let Some(own) = plan.user {
        user::become_user(own).map_err(Failure::in_layer(Layer::OwnUser, "change the user"))?;
    }
    rustix::thread::set_no_new_privs(true).map_err(Failure::of("give up new privileges"))?;
    if let Some(lent) = &plan.lent {
        files::confine(lent).map_err(Failure::in_layer(Layer::Landlock, "confine to files"))?;
    }
    seccompiler::apply_filter(&filter).map_err(Failure::of("put on the system call filter"))?;
    match &plan.task {
        Task::Nothing => Ok(Done::Tried),
        Task::Own { args } => Ok(Done::Own(args.clone(), given(&plan.keep))),
        Task::Program { path, args } => {
            let act = format!("run {}", path.display());
            Err(Failure::of(act)(program(path, args).exec()))
        }
    }
}

fn given(keep: &[RawFd]) -> Vec<OwnedFd> {
    // SAFETY: the daemon left these descriptors open for what this process becomes, and nothing else in it
    // knows them.
    keep.iter().map(|&fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

fn program(path: &OsStr, args: &[OsString]) -> Command {
    #[expect(clippy::disallowed_methods, reason = "this is the VMM room")]
    let mut command = Command::new(path);
    command.args(args).env_clear();
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
