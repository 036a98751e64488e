//! The host's time stamp counter, which a guest under TCG sees as its own.
//!
//! A distribution kernel calibrates it against emulated timers and hangs in doing so in 2 to 3
//! boots of 5; told the frequency (`tsc_early_khz`) it skips that.

use std::time::{Duration, Instant};

/// The interval over which ticks are counted. Reading both clocks takes well under 1 µs, so the
/// error stays under 50 parts in a million.
const INTERVAL: Duration = Duration::from_millis(20);

/// Ticks in a millisecond, measured; `None` where there is no such counter.
pub(super) async fn tsc_khz() -> Option<u64> {
    let (start, ticks) = read()?;
    tokio::time::sleep(INTERVAL).await;
    let (end, later) = read()?;
    let nanos = end.duration_since(start).as_nanos();
    let khz = u128::from(later.checked_sub(ticks)?) * 1_000_000 / nanos;
    u64::try_from(khz).ok()
}

/// Both clocks at one moment: the closest of some tries, since the thread may be interrupted in
/// between.
fn read() -> Option<(Instant, u64)> {
    let try_once = || {
        let before = ticks()?;
        let now = Instant::now();
        let after = ticks()?;
        Some((after.wrapping_sub(before), now, before))
    };
    let tries = (0..8).filter_map(|_| try_once());
    tries.min_by_key(|(gap, ..)| *gap).map(|(_, now, ticks)| (now, ticks))
}

#[cfg(target_arch = "x86_64")]
fn ticks() -> Option<u64> {
    // SAFETY: RDTSC has no precondition on any x86-64 CPU; where the host's kernel forbids it to
    // user space (prctl PR_SET_TSC), no process of the user could run at all.
    Some(unsafe { core::arch::x86_64::_rdtsc() })
}

#[cfg(not(target_arch = "x86_64"))]
fn ticks() -> Option<u64> {
    None
}
