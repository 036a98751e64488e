//! What became of many launches: how many, how fast, and why not.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

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
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Summary {
    asked: usize,
    ready: usize,
    seconds: f64,
    /// From the request to the first MCP reply.
    launch_ms: Option<Spread>,
    /// From the VM's start to the first MCP reply.
    boot_ms: Option<Spread>,
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

#[derive(Debug, PartialEq, Serialize)]
struct Failure {
    kind: Kind,
    cause: String,
    count: usize,
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
            seconds: took.as_secs_f64(),
            launch_ms: Spread::of(times.iter().map(|took| took.whole)),
            boot_ms: Spread::of(times.iter().filter_map(|took| took.boot)),
            failures: failures.into_values().collect(),
            vms: ready,
        }
    }

    /// An error unless all are ready; its kind is the failures', where they agree.
    pub(super) fn verdict(&self) -> Result<(), CliError> {
        let Some(first) = self.failures.first() else { return Ok(()) };
        let same = self.failures.iter().all(|failure| failure.kind == first.kind);
        let kind = if same { first.kind } else { Kind::Failed };
        let message =
            format!("{} of {} VMs did not become ready", self.asked - self.ready, self.asked);
        Err(CliError::new(kind, message).hint("osvm doctor"))
    }
}

/// One more failure of its cause; a cause that names its VM is the same for all.
fn count(failures: &mut BTreeMap<String, Failure>, name: &ServerName, error: &CliError) {
    let cause = error.message().replace(name.as_str(), "NAME");
    let new = Failure { kind: error.kind, cause: cause.clone(), count: 0 };
    failures.entry(cause).or_insert(new).count += 1;
}

impl Spread {
    fn of(times: impl Iterator<Item = Duration>) -> Option<Self> {
        let mut times: Vec<u64> =
            times.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).collect();
        times.sort_unstable();
        let max = *times.last()?;
        let rank = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
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
            write!(f, "\n{table}")?;
        }
        self.failures.iter().try_for_each(|failure| {
            write!(f, "\n{} x {}", failure.count, output::safe(&failure.cause))
        })?;
        if self.failures.is_empty() { Ok(()) } else { writeln!(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(number: u64, result: Result<u64, CliError>) -> Outcome {
        let took = |ms| Took {
            whole: Duration::from_millis(ms),
            boot: Some(Duration::from_millis(ms / 2)),
        };
        Outcome { name: format!("many-{number}").parse().unwrap(), result: result.map(took) }
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let outcomes = (1..=100).map(|n| outcome(n, Ok(n * 10))).collect();
        let summary = Summary::of(outcomes, Duration::from_secs(2));
        let spread = Spread { p50: 500, p90: 900, p99: 990, max: 1000 };
        assert_eq!(summary.launch_ms, Some(spread));
        assert_eq!((summary.vms[1].as_str(), summary.vms[99].as_str()), ("many-2", "many-100"));
        assert_eq!(summary.verdict(), Ok(()));
        let one = Spread::of([Duration::from_millis(7)].into_iter()).unwrap();
        assert_eq!(one, Spread { p50: 7, p90: 7, p99: 7, max: 7 });
    }

    #[test]
    fn failures_are_counted_by_cause_and_decide_the_kind() {
        let lack = |n| CliError::new(Kind::Unavailable, format!("launch many-{n}: no memory"));
        let outcomes = vec![outcome(1, Err(lack(1))), outcome(2, Err(lack(2))), outcome(3, Ok(5))];
        let summary = Summary::of(outcomes, Duration::from_secs(1));
        assert_eq!(summary.failures[0].cause, "launch NAME: no memory");
        assert_eq!(summary.failures[0].count, 2);
        assert_eq!(summary.verdict().unwrap_err().kind, Kind::Unavailable);
        assert!(summary.to_string().ends_with("\n2 x launch NAME: no memory\n"), "{summary}");
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
