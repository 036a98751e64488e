//! What became of many launches: how many, how fast, what they cost, and why not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use osvm_daemon::api::VmStatus;
use osvm_spec::ServerName;
use serde::Serialize;

use crate::error::{CliError, Kind};
use crate::output;
use crate::table::Side::{Left, Right};
use crate::table::Table;

/// One launch.
pub(super) struct Outcome {
    pub(super) name: ServerName,
    pub(super) result: Result<Took, CliError>,
}

/// How long a launch took to the first MCP reply.
pub(super) struct Took {
    /// Since it was asked for, waiting for its turn included.
    pub(super) whole: Duration,
    /// Since its VM could start.
    pub(super) boot: Option<Duration>,
    pub(super) is_clone: bool,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    asked: usize,
    ready: usize,
    /// How many of those began as clones.
    clones: usize,
    seconds: f64,
    /// From the request to the first MCP reply.
    launch_ms: Option<Spread>,
    /// From the VM's start to the first MCP reply.
    boot_ms: Option<Spread>,
    /// Of those that are ready, once all were.
    memory: Option<Memory>,
    failures: Vec<Failure>,
    /// Names of those that are ready.
    vms: Vec<ServerName>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
struct Spread {
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

/// In bytes.
#[derive(Debug, PartialEq, Serialize)]
struct Memory {
    /// What the host spends, by the number of VMs: what several share is counted once.
    each: u64,
    /// What nobody else maps.
    unique: Spread,
}

#[derive(Debug, PartialEq, Serialize)]
struct Failure {
    kind: Kind,
    /// The first one's.
    cause: String,
    count: usize,
    #[serde(skip)]
    hints: Vec<String>,
}

impl Summary {
    pub(super) fn of(outcomes: Vec<Outcome>, took: Duration) -> Self {
        let mut failures = BTreeMap::<String, Failure>::new();
        let (mut ready, mut times) = (Vec::new(), Vec::new());
        let asked = outcomes.len();
        for Outcome { name, result } in outcomes {
            match result {
                Ok(took) => {
                    ready.push(name);
                    times.push(took);
                }
                Err(error) => count(&mut failures, &name, &error),
            }
        }
        ready.sort_by(|a, b| (a.as_str().len(), a).cmp(&(b.as_str().len(), b)));
        Self {
            asked,
            ready: ready.len(),
            clones: times.iter().filter(|took| took.is_clone).count(),
            seconds: took.as_secs_f64(),
            launch_ms: Spread::of(times.iter().map(|took| millis(took.whole))),
            boot_ms: Spread::of(times.iter().filter_map(|took| took.boot).map(millis)),
            memory: None,
            failures: failures.into_values().collect(),
            vms: ready,
        }
    }

    /// With what those hold by now that are ready.
    pub(super) fn with_memory(self, vms: &[VmStatus]) -> Self {
        let ours: BTreeSet<_> = self.vms.iter().collect();
        let held = |vm: &VmStatus| {
            ours.contains(&vm.name).then_some((vm.memory_used_bytes?, vm.memory_unique_bytes?))
        };
        let memory = Memory::of(&vms.iter().filter_map(held).collect::<Vec<_>>());
        Self { memory, ..self }
    }

    /// An error unless all are ready; its kind and its hints are the failures', where they agree.
    pub(super) fn verdict(&self) -> Result<(), CliError> {
        let Some(first) = self.failures.first() else { return Ok(()) };
        let agree = |like: fn(&Failure, &Failure) -> bool| {
            self.failures.iter().all(|failure| like(failure, first))
        };
        let kind = if agree(|a, b| a.kind == b.kind) { first.kind } else { Kind::Failed };
        let message =
            format!("{} of {} VMs did not become ready", self.asked - self.ready, self.asked);
        let error = CliError::new(kind, message);
        Err(match agree(|a, b| a.hints == b.hints) && !first.hints.is_empty() {
            true => first.hints.iter().fold(error, CliError::hint),
            false => error.hint("osvm doctor"),
        })
    }
}

/// One more failure of its cause; a cause that names its VM, or the figures of its moment, is the same for all.
fn count(failures: &mut BTreeMap<String, Failure>, name: &ServerName, error: &CliError) {
    let cause = error.message().replace(name.as_str(), "NAME");
    let alike = cause.replace(|c: char| c.is_ascii_digit(), "");
    let new = Failure { kind: error.kind, cause, count: 0, hints: error.hints().to_vec() };
    failures.entry(alike).or_insert(new).count += 1;
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Memory {
    /// Of VMs, each with what it counts for and what is unique to it.
    fn of(held: &[(u64, u64)]) -> Option<Self> {
        let unique = Spread::of(held.iter().map(|(_, unique)| *unique))?;
        let all: u64 = held.iter().map(|(used, _)| *used).sum();
        Some(Self { each: all / held.len() as u64, unique })
    }
}

impl Spread {
    fn of(values: impl Iterator<Item = u64>) -> Option<Self> {
        let mut values: Vec<u64> = values.collect();
        values.sort_unstable();
        let max = *values.last()?;
        let rank = |percent: usize| values[(values.len() * percent).div_ceil(100) - 1];
        Some(Self { p50: rank(50), p90: rank(90), p99: rank(99), max })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = self.asked - self.ready;
        writeln!(f, "{} ready, {failed} failed, {:.1} s", self.ready, self.seconds)?;
        let mut table = Table::new(&[
            ("MILLISECONDS", Left),
            ("P50", Right),
            ("P90", Right),
            ("P99", Right),
            ("MAX", Right),
        ]);
        for (what, spread) in [("launch to reply", self.launch_ms), ("boot to reply", self.boot_ms)]
        {
            if let Some(spread) = spread {
                let times =
                    [spread.p50, spread.p90, spread.p99, spread.max].map(|ms| ms.to_string());
                table.row([what.to_owned()].into_iter().chain(times).collect());
            }
        }
        if self.launch_ms.is_some() {
            write!(f, "\n{table}\nclones  {} of {}\n", self.clones, self.ready)?;
        }
        if let Some(memory) = &self.memory {
            writeln!(f, "{memory}")?;
        }
        self.failures.iter().try_for_each(|failure| {
            write!(f, "\n{} x {}", failure.count, output::safe(&failure.cause))
        })?;
        if self.failures.is_empty() { Ok(()) } else { writeln!(f) }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let [each, p50, max] = [self.each, self.unique.p50, self.unique.max].map(mib);
        write!(
            f,
            "memory  {each:.1} MiB each; unique to each: {p50:.1} MiB (p50), {max:.1} MiB (max)"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(number: u64, result: Result<u64, CliError>) -> Outcome {
        let took = |ms| Took {
            whole: Duration::from_millis(ms),
            boot: Some(Duration::from_millis(ms / 2)),
            is_clone: number > 1,
        };
        Outcome { name: format!("many-{number}").parse().unwrap(), result: result.map(took) }
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let outcomes = (1..=100).map(|n| outcome(n, Ok(n * 10))).collect();
        let summary = Summary::of(outcomes, Duration::from_secs(2));
        let spread = Spread { p50: 500, p90: 900, p99: 990, max: 1000 };
        assert_eq!((summary.launch_ms, summary.clones), (Some(spread), 99));
        assert_eq!((summary.vms[1].as_str(), summary.vms[99].as_str()), ("many-2", "many-100"));
        assert_eq!(summary.verdict(), Ok(()));
        let one = Spread::of([7].into_iter()).unwrap();
        assert_eq!(one, Spread { p50: 7, p90: 7, p99: 7, max: 7 });
    }

    #[test]
    fn failures_are_counted_by_cause_and_decide_the_kind() {
        let lack = |n| {
            CliError::new(Kind::Unavailable, format!("launch many-{n}: 1{n} MiB are free"))
                .hint("stop")
        };
        let outcomes = vec![outcome(1, Err(lack(1))), outcome(2, Err(lack(2))), outcome(3, Ok(5))];
        let summary = Summary::of(outcomes, Duration::from_secs(1));
        assert_eq!(summary.failures[0].cause, "launch NAME: 11 MiB are free");
        assert_eq!(summary.failures[0].count, 2);
        let verdict = summary.verdict().unwrap_err();
        assert_eq!((verdict.kind, verdict.hints()), (Kind::Unavailable, &["stop".to_owned()][..]));
        assert!(summary.to_string().ends_with("\n2 x launch NAME: 11 MiB are free\n"), "{summary}");
    }

    #[test]
    fn what_vms_share_is_counted_once_and_what_is_unique_has_a_middle_and_a_most() {
        const MIB: u64 = 1 << 20;
        let held = [(60 * MIB, 20 * MIB), (20 * MIB, 10 * MIB), (10 * MIB, 9 * MIB)];
        let memory = Memory::of(&held).unwrap();
        let told = "memory  30.0 MiB each; unique to each: 10.0 MiB (p50), 20.0 MiB (max)";
        assert_eq!(memory.to_string(), told);
        assert_eq!(Memory::of(&[]), None);
    }

    #[test]
    fn unlike_failures_are_plain_failures_and_no_times_are_no_table() {
        let (a, b) = (CliError::new(Kind::TimedOut, "slow"), CliError::failed("broke"));
        let summary =
            Summary::of(vec![outcome(1, Err(a)), outcome(2, Err(b))], Duration::from_secs(1));
        assert_eq!(summary.verdict().unwrap_err().kind, Kind::Failed);
        assert!(!summary.to_string().contains("P50"));
    }
}
