//! Whether the lab is alive: it says so every few seconds. An emulated machine can freeze without a word, which
//! looks like a command that takes long.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a lab that is alive is never silent for, on a machine with other work.
pub(super) const SILENCE: Duration = Duration::from_secs(180);

/// When the lab was last heard of. Clones are of the same one.
#[derive(Clone)]
pub(super) struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    pub(super) fn start() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn is_lost(&self) -> bool {
        self.last().elapsed() > SILENCE
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whatever is written is a sign of life.
impl Write for Pulse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        *self.last() = Instant::now();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_is_lost_when_it_was_silent_for_long_and_until_it_is_heard_again() {
        let pulse = Pulse::start();
        assert!(!pulse.is_lost());
        *pulse.last() = Instant::now().checked_sub(2 * SILENCE).unwrap();
        assert!(pulse.is_lost());
        pulse.clone().write_all(b"\n").unwrap();
        assert!(!pulse.is_lost());
    }
}
