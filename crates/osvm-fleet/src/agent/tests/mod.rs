//! The host's end against a guest made of the wire's own bookkeeping, over links that break at any byte.

mod guest;
mod requests;
mod sessions;
