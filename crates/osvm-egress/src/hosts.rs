//! Which hosts a guest may reach.
//!
//! - [`policy`]: what the rules say. [`address`]: what an address is. Both are pure.

pub mod address;
pub mod policy;
