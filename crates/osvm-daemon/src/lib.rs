//! The per-user service behind the command: HTTP API on a Unix socket.
//!
//! - [`api`]: what is asked and answered; data only.
//! - [`client`]: the command's end. [`serve`]: the daemon's end.
//! - [`audit`]: the record of tool calls.
//! - [`setup`], [`doctor`], [`images`], [`bundles`], [`local`] and [`lock`]: what works without a daemon. [`builder`]:
//!   what needs its VMs. [`gateway`]: its sessions over HTTP.
#![forbid(unsafe_code)]

pub mod api;
pub mod audit;
pub mod builder;
pub mod bundles;
pub mod client;
mod config_file;
pub mod doctor;
pub mod gateway;
mod home;
mod host;
pub mod images;
mod importer;
pub mod local;
pub mod lock;
mod payload;
pub mod policy;
mod service;
pub mod setup;
pub mod shim;
pub mod stream;
pub mod text_file;

pub use config_file::{ConfigFile, ConfigFileError};
pub use home::Home;
pub use host::Host;
pub use service::{Idle, LISTENING, Options, ServeError, serve};
