//! A door for the fuzzing crate to what reads the bytes of programs inside the VM. No part of the interface.

pub use crate::reach::hosts::dns::fuzz as dns;
pub use crate::reach::hosts::proxy::head::{Fuzzed, fuzz as head};
