//! Folders of the host that are lent to a guest: a FUSE server for one folder, or one file, in a process and a jail of
//! its own, whose only way in is the stream it is spoken to on.
//!
//! - [`Folder`]: what is opened before the process is confined.
//! - [`serve()`]: connections, and who answers on them.
//! - `lent`: what is done with the host's files.
//! - `guard` and `zone`: what may be done, decided without touching any.
//! - `fuse`: the messages; `nodes`: what the guest knows of; `found`: one name, opened.
//!
//! The guest is taken for hostile, and the host's user is not: what the user moves while the guest works, the
//! guest may go on using where it had it open.
//!
//! It stands on no passthrough crate. With the one that fits (fuse-backend-rs 0.14), a guard could tell mounts
//! apart by device numbers only, which bind mounts share; files are linked by a call that needs a capability
//! before Linux 6.10; files' numbers are kept when the guest forgets the files; and 26 crates and their unsafe
//! code come into the process that reads what the guest sends. What it would save is a system call a request.

mod folder;
mod found;
mod fuse;
mod guard;
pub(crate) mod lent;
mod nodes;
mod serve;
mod zone;

pub use folder::{Folder, HoldError};
pub use serve::{ServeError, serve};
pub use zone::runs_code;
