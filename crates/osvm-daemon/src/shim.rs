//! osvm as a process that no user starts, by its first argument. [`WORD`]: in a jail, the shim that becomes a VMM, or
//! what serves a folder that a guest is lent. [`RELAY_WORD`]: what connects guests to hosts. [`IMPORT_WORD`]: what
//! makes an image of a path.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use osvm_egress::hosts;
use osvm_fleet::drivers::jail;
use osvm_fleet::folders;

use crate::importer;

pub use jail::WORD;
pub use osvm_egress::hosts::ProxySettings;

pub use crate::importer::WORD as IMPORT_WORD;
pub const RELAY_WORD: &str = "host-relay";

/// The whole process. `socket` is where the daemon tells what to become.
pub fn enter(socket: i32) -> ExitCode {
    jail::enter(socket, own)
}

/// The whole process.
pub fn import(store: &OsStr, path: &OsStr) -> ExitCode {
    importer::run(store, path)
}

/// The whole process; its standard input is the socket to the daemon. `proxies` are the host's own.
pub fn relay(proxies: ProxySettings) -> ExitCode {
    let control = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(control) => control,
        Err(error) => return failed(&error),
    };
    match hosts::serve(control, &hosts::Settings { proxies, ..hosts::Settings::default() }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    let _ = writeln!(io::stderr(), "host relay: {error}");
    ExitCode::FAILURE
}

fn own(args: &[OsString], given: Vec<OwnedFd>) -> ExitCode {
    match args {
        [word, access] if word == folders::WORD => folders::serve(access, None, given),
        [word, access, file] if word == folders::WORD => folders::serve(access, Some(file), given),
        _ => ExitCode::FAILURE,
    }
}
