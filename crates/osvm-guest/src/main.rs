//! PID 1 inside the VM.

fn main() {
    osvm_guest::init::run();
}
