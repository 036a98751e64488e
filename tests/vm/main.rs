//! Real VMs, driven through the `osvm` command as a stranger would.
//!
//! Every test has a home, a runtime directory and a daemon of its own, so any of them may run beside
//! any other. The kernel and the base image are laid down once and shared by hard links.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test starts programs, reads its environment, and fails by panicking"
)]

mod forwarder;
mod guest;
mod osvm;
mod rootfs;
mod small_disk;
mod wheels;
mod world;

mod adoption;
mod arguments;
mod base;
mod bundles;
mod call;
mod chaos;
mod eras;
mod faults;
mod folders;
mod forms;
mod gateway;
mod hostile;
mod hosts;
mod images;
mod input;
mod interrupts;
mod isolation;
mod jail;
mod local;
mod lock;
mod manifest;
mod oauth;
mod packages;
mod peers;
mod policy;
mod pypi;
mod record;
mod run;
mod secrets;
mod servers;
mod started;
mod status;
mod suspend;
mod templates;
mod third_party;
mod tokens;
mod user;
