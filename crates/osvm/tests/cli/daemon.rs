//! The daemon and what belongs to it, as processes.

use std::os::unix::process::CommandExt;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::osvm::Osvm;

#[test]
fn a_terminal_that_closes_leaves_the_daemon_and_its_relay_alone() {
    let osvm = Osvm::new();
    let mut command = osvm.command(&["daemon"]);
    let mut first = command.process_group(0).stdout(Stdio::null()).spawn().unwrap();
    let group = Pid::from_child(&first);
    assert!(first.wait().unwrap().success());
    // What a terminal's end, or its Ctrl-C, sends to whoever the command has started.
    let left = kill_process_group(group, Signal::HUP);
    let stopped = osvm.ok(&["daemon", "--stop"]);
    assert_eq!(left, Err(rustix::io::Errno::SRCH), "a process stayed in the terminal's group");
    assert!(stopped.starts_with("ended daemon"), "{stopped}");
}
