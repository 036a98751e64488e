//! osvm as a process in a jail, when its first argument is [`WORD`]: the shim that becomes a VMM, or what serves a
//! folder that a guest is lent.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use osvm_fleet::drivers::jail;
use osvm_fleet::folders;

pub use jail::WORD;

/// The whole process. `socket` is where the daemon tells what to become.
pub fn enter(socket: i32) -> ExitCode {
    jail::enter(socket, own)
}

fn own(args: &[OsString], given: Vec<OwnedFd>) -> ExitCode {
    match args {
        [word, access] if word == folders::WORD => folders::serve(access, given),
        _ => ExitCode::FAILURE,
    }
}
