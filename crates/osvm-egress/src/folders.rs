//! Folders of the host that are lent to a guest: a FUSE server for one folder, in a process and a jail of its
//! own, whose only way in is the stream it is spoken to on.
//!
//! - [`Folder`]: what is opened before the process is confined.
//! - [`serve()`]: connections, and who answers on them.
//! - `lent`: what is done with the host's files.
//! - `guard` and `zone`: what may be done, decided without touching any.
//! - `fuse`: the messages; `nodes`: what the guest knows of.
//!
//! The guest is taken for hostile, and the host's user is not: what the user moves while the guest works, the
//! guest may go on using where it had it open.

mod folder;
mod fuse;
mod guard;
mod lent;
mod nodes;
mod serve;
mod zone;

pub use folder::{Folder, HoldError};
pub use serve::{ServeError, serve};
