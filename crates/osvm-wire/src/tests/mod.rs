//! What the wire promises, through its public face.

mod chunk;
mod frames;
mod golden;
mod link;
mod post;
mod session;
