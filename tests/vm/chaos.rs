//! Whatever is launched, called, stopped and killed, in whatever order: nothing is left, nothing is
//! lost or done twice, and nothing hangs.
//!
//! The steps follow from a seed. `OSVM_CHAOS_SECONDS` makes it long, `OSVM_CHAOS_SEED` repeats one; a
//! failure prints the seed and the steps up to it. What a killed VM's server did is not known any more, so
//! a call done twice is seen only where the VM, or both of them, lived long enough to be asked.

mod machine;
mod steps;

use std::time::{Duration, Instant};

use machine::Machine;
use steps::Steps;

/// What CI can spare.
const SECONDS: u64 = 60;

#[test]
fn whatever_dies_nothing_is_left_or_lost_or_done_twice() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seconds = number("OSVM_CHAOS_SECONDS").unwrap_or(SECONDS);
    let seed = number("OSVM_CHAOS_SEED").unwrap_or(1);
    let mut steps = Steps::new(seed);
    let mut machine = Machine::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let step = steps.next();
        machine.take(&step);
        machine.check();
    }
    machine.end();
    eprintln!("chaos: seed {seed}, {} steps, {}", steps.count(), machine.summary());
}
