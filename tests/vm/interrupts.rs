//! Ctrl-C: what was begun is undone, nothing is left.

use crate::osvm::{Osvm, eventually, interrupt};

#[test]
fn an_interrupted_launch_leaves_nothing() {
    let osvm = Osvm::new();
    osvm.daemon_pid();
    let launch = osvm.start(&["mcp", "microvm", "launch", "demo"]);
    eventually("the VMM runs", || !osvm.vmm_processes().is_empty());
    interrupt(launch).expect(130);
    eventually("nothing is left", || osvm.vms().is_empty());
    osvm.assert_nothing_left();
}

#[test]
fn an_interrupted_launch_many_leaves_nothing() {
    let osvm = Osvm::new();
    osvm.daemon_pid();
    let launch = osvm.start(&["mcp", "microvm", "launch-many", "6", "--memory", "128"]);
    eventually("half of them have a VMM", || osvm.vmm_processes().len() >= 3);
    interrupt(launch).expect(130);
    eventually("nothing is left", || osvm.vms().is_empty());
    osvm.assert_nothing_left();
}

#[test]
fn an_interrupted_call_is_cancelled_and_the_vm_goes_on() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "microvm", "launch", "demo"]);
    let call = osvm.start(&["mcp", "call", "demo", "sleep", r#"{"ms":600000}"#]);
    eventually("the call has arrived", || osvm.vm("demo")["sessions"] == 1);
    interrupt(call).expect(130);
    eventually("the call is gone", || osvm.vm("demo")["sessions"] == 0);
    osvm.ok(&["mcp", "call", "demo", "echo", r#"{"text":"on"}"#]);
}
