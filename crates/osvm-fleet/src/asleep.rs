//! A guest that sleeps before its agent has spoken, which nothing will wake.
//!
//! Seen under software emulation with distribution kernels, in about one boot of a hundred on a busy machine:
//! the kernel measures its timer, its processor loses its turn meanwhile, and it goes on without a timer.

use std::time::{Duration, Instant};

use osvm_vmm::Process;

/// A VMM whose guest sleeps still has its own timers.
const HARDLY_BUSY: Duration = Duration::from_millis(100);

/// Returns when the VMM has hardly used a processor for that long.
pub(crate) async fn asleep(vmm: &Process, for_that_long: Duration) {
    let mut since = Instant::now();
    let mut then = vmm.cpu_time();
    loop {
        tokio::time::sleep(for_that_long / 10).await;
        let now = vmm.cpu_time();
        let was_busy = match (then, now) {
            (Some(then), Some(now)) => now.saturating_sub(then) > HARDLY_BUSY,
            // It has ended, which is for others to tell.
            _ => true,
        };
        if was_busy {
            (since, then) = (Instant::now(), now);
        } else if since.elapsed() >= for_that_long {
            return;
        }
    }
}
