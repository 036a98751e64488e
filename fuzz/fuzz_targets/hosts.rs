//! Runs `osvm_fuzz::hosts` under libFuzzer.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| osvm_fuzz::hosts(bytes));

#[cfg(not(fuzzing))]
fn main() {}
