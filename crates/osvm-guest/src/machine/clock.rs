//! The time of day.

use rustix::io::Errno;
use rustix::time::{ClockId, Timespec, clock_settime};

const NANOS: u64 = 1_000_000_000;

/// Sets the time of day to nanoseconds since 1970.
pub(super) fn set(unix_nanos: u64) -> Result<(), Errno> {
    let seconds = i64::try_from(unix_nanos / NANOS).map_err(|_| Errno::INVAL)?;
    let nanos = (unix_nanos % NANOS) as i64;
    clock_settime(ClockId::Realtime, Timespec { tv_sec: seconds, tv_nsec: nanos })
}
