//! The `osvm` command from outside: what it prints, and the code it ends with.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod bundles;
mod configuration;
mod daemon;
mod fake;
mod images;
mod import;
mod local;
mod osvm;
mod record;
mod registry;
mod releases;
mod requests;
mod tokens;
