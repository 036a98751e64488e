//! Folders, lent: the share process's server, driven by FUSE messages as the guest's agent carries them, and
//! through a real kernel that mounts it. The guest here is as hostile as it likes.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test starts programs, says why it is skipped, and fails by panicking"
)]

mod escapes;
mod file;
mod hostile;
mod mount;
mod ordinary;
mod peer;
mod protected;
mod reconnect;
mod share;
