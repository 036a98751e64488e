//! The per-user service behind the command: HTTP API on a Unix socket.
//!
//! - [`api`]: what is asked and answered; data only.
//! - [`client`]: the command's end. [`serve`]: the daemon's end.
//! - [`setup`] and [`doctor`]: what works without a daemon.
#![forbid(unsafe_code)]

pub mod api;
pub mod client;
pub mod doctor;
mod home;
mod host;
mod payload;
mod service;
pub mod setup;
pub mod stream;

pub use home::Home;
pub use host::Host;
/// The shim that VMMs are started through: osvm itself, when its first argument is
/// [`shim::WORD`].
pub use osvm_fleet::drivers::jail as shim;
pub use service::{LISTENING, Options, ServeError, serve};
