//! Runs `osvm_fuzz::guard` under libFuzzer.
#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| osvm_fuzz::guard(bytes));

#[cfg(not(fuzzing))]
fn main() {}
