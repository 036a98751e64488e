//! Whether the lab is alive. An emulated machine can freeze without a word, which looks like a command that takes
//! long; so it is knocked at, and answers.
//!
//! The knocking also wakes it. QEMU's TCG enters a nested guest with a read and a write of the processor's pending
//! interrupts that no lock protects; a timer that fires on another thread between the two is forgotten, and an
//! idle kernel waits for it for ever. Whatever interrupts next brings it back to mind, and a knock does.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What a lab that is alive is never silent for, on a machine with other work.
pub(super) const SILENCE: Duration = Duration::from_secs(180);
/// How long a forgotten interrupt costs at most.
const BEAT: Duration = Duration::from_millis(200);

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

    /// Knocks until the lab has hung up. One that does not answer is knocked at all the same.
    pub(super) fn knock(&self, mut lab: UnixStream) -> io::Result<()> {
        lab.set_nonblocking(true)?;
        let mut answers = [0; 64];
        loop {
            match lab.write_all(b"\n").and_then(|()| lab.read(&mut answers)) {
                Ok(0) => return Ok(()),
                Ok(_) => *self.last() = Instant::now(),
                Err(none) if none.kind() == io::ErrorKind::WouldBlock => {}
                Err(gone) if gone.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(error),
            }
            thread::sleep(BEAT);
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_is_lost_when_it_was_silent_for_long_and_until_it_answers_again() {
        let pulse = Pulse::start();
        assert!(!pulse.is_lost());
        *pulse.last() = Instant::now().checked_sub(2 * SILENCE).unwrap();
        assert!(pulse.is_lost());

        let (here, mut lab) = UnixStream::pair().unwrap();
        let knocking = {
            let pulse = pulse.clone();
            thread::spawn(move || pulse.knock(here))
        };
        let mut knock = [0];
        lab.read_exact(&mut knock).unwrap();
        assert!(pulse.is_lost(), "a knock is no answer");
        lab.write_all(&knock).unwrap();
        // The second knock after the answer finds it.
        lab.read_exact(&mut [0; 2]).unwrap();
        assert!(!pulse.is_lost());
        drop(lab);
        knocking.join().unwrap().unwrap();
    }
}
