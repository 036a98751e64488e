//! What happens next: the same for the same seed. Printed when the test fails.

use std::time::Duration;

/// Servers, by the place of their name.
pub(crate) const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Launch(usize),
    Call(usize),
    /// A conversation of its own over `mcp run`.
    Run(usize),
    Exec(usize),
    Stop(usize),
    Kill(Victim),
    /// Several things at once; after a while something is killed or stopped.
    Storm {
        calls: Vec<usize>,
        launch: usize,
        run: usize,
        wait: Duration,
        then: Victim,
    },
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Victim {
    Daemon,
    Vmm(usize),
    /// Root in the guest does its worst to the agent, and then to the kernel.
    Agent(usize),
    /// All processes of the server's user.
    Server(usize),
    /// Stopped by name, in good order.
    Vm(usize),
}

pub(crate) struct Steps {
    seed: u64,
    state: u64,
    taken: Vec<String>,
}

impl Steps {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, state: seed, taken: Vec::new() }
    }

    pub(crate) fn next(&mut self) -> Step {
        let server = self.below(NAMES.len());
        let step = match self.below(20) {
            0..2 => Step::Launch(server),
            2..8 => Step::Call(server),
            8..10 => Step::Run(server),
            10..12 => Step::Exec(server),
            12 => Step::Stop(server),
            13..15 => Step::Kill(self.victim()),
            _ => self.storm(),
        };
        self.taken.push(format!("{step:?}"));
        step
    }

    pub(crate) fn count(&self) -> usize {
        self.taken.len()
    }

    fn storm(&mut self) -> Step {
        let calls = (0..=self.below(3)).map(|_| self.below(NAMES.len())).collect();
        let (launch, run) = (self.below(NAMES.len()), self.below(NAMES.len()));
        let wait = Duration::from_millis(self.below(1500) as u64);
        Step::Storm { calls, launch, run, wait, then: self.victim() }
    }

    fn victim(&mut self) -> Victim {
        let server = self.below(NAMES.len());
        match self.below(5) {
            0 => Victim::Daemon,
            1 => Victim::Vmm(server),
            2 => Victim::Agent(server),
            3 => Victim::Server(server),
            _ => Victim::Vm(server),
        }
    }

    /// SplitMix64, as its authors published it.
    fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % limit as u64) as usize
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let steps = self.taken.join("\n");
            eprintln!("OSVM_CHAOS_SEED={} failed at step {}:\n{steps}", self.seed, self.count());
        }
    }
}
