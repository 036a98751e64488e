//! What the wire promises, through its public face.

mod frames;
mod golden;
mod link;
mod session;
