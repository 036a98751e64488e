//! One module a command: what it says about itself, its arguments, what it does.

pub(crate) mod completions;
pub(crate) mod daemon;
pub(crate) mod doctor;
pub(crate) mod image;
pub(crate) mod mcp;
pub(crate) mod setup;
