//! Which hosts a guest may reach, and the process that connects it to them.
//!
//! - [`policy`] says what the rules allow, [`address`] what an address is. Both are pure.
//! - [`relay`] carries one stream of a guest's: `resolve` looks the host up, `dial` connects, by way of the host's
//!   `proxy` where it has one; `hello` and `web` see that what is asked for inside the connection is what was
//!   granted; `chunked` gives each direction an end, `meter` counts, `log` tells. [`account`] reads what it told.
//! - [`process`] serves streams of all VMs in a process that has given up everything else. A daemon reaches it
//!   through a [`Relay`].

pub mod account;
pub mod address;
pub(crate) mod chunked;
mod dial;
pub(crate) mod hello;
mod log;
mod meter;
pub mod policy;
mod process;
mod proxy;
pub(crate) mod relay;
mod resolve;
pub(crate) mod web;

pub use process::{CarryError, MOST_RULES, Relay, ServeError, Settings, control, serve};
pub use proxy::{ProxySettings, ProxySettingsError};
pub use resolve::Sources;

#[cfg(test)]
mod tests;
