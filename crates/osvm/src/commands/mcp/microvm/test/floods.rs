//! A hostile server writes more than anybody wants to read, to everything that leads to the host.

use std::time::Duration;

use osvm_daemon::api::VmStatus;
use serde_json::{Value, json};

use super::check::{Check, Group, Seen, short};
use super::host::disk_use;
use super::limits::DISK;
use super::stage::Stage;
use crate::output::size;

const GROUP: Group = Group("floods");

/// What a server may make the daemon hold: the longest line (64 MiB), once as it arrives and once as it is
/// taken apart, and as much again for what the allocator does not give back at once.
const DAEMON_KIB: u64 = 256 << 10;

/// How long each of these may go on, in a usual and in a thorough test: where processors are emulated, a byte for the
/// console can take a millisecond.
const SECONDS: [u64; 2] = [20, 100];

/// Where it writes, what, and how many KiB in a usual and in a thorough test.
const BESIDE: [(&str, &str, &str, [u64; 2]); 3] = [
    ("standard error", "stderr", "lines", [12 << 10, 256 << 10]),
    ("the console", "console", "lines", [256, 4 << 10]),
    ("the kernel's log", "kmsg", "alarms", [16, 512]),
];

/// The same to standard output, where messages should be.
const IN_BAND: [(&str, &str, [u64; 2]); 6] = [
    ("no text", "no text", [96, 2 << 10]),
    ("zeros", "zeros", [1 << 10, 32 << 10]),
    ("JSON nested 500,000 deep", "depth", [2 << 10, 64 << 10]),
    ("answers that nobody asked for", "answers", [256, 16 << 10]),
    ("questions without end", "questions", [256, 4 << 10]),
    // A million of them have 80 MiB.
    ("small messages without end", "messages", [1 << 10, 80 << 10]),
];

/// Connections to vsock ports of the host, in a usual and in a thorough test.
const KNOCKS: [u32; 2] = [500, 10_000];

/// 1 GiB.
const LINE_KIB: u64 = 1 << 20;

/// How long the server may need to be heard again.
const PATIENCE: Duration = Duration::from_secs(200);

/// And how long for one answer, which may have been lost in the flood.
const ANSWER: Duration = Duration::from_secs(10);

pub(super) async fn checks(
    stage: &Stage,
    demo: &VmStatus,
    hostile: &VmStatus,
    thorough: bool,
) -> Vec<Check> {
    let much = |sizes: [u64; 2]| sizes[usize::from(thorough)];
    let seconds = much(SECONDS);
    let before = super::host::figure(stage.daemon(), "VmRSS").unwrap_or_default();
    let attempts = async {
        let mut checks = Vec::new();
        for (name, to, kind, sizes) in BESIDE {
            stage.say(&format!("flooding {name}"));
            let flood = json!({ "to": to, "kind": kind, "kib": much(sizes), "seconds": seconds });
            let seen = stage.attempt(hostile, "flood", flood).await;
            checks.push(GROUP.judge(name, &seen, written));
        }
        stage.say("knocking at ports of the host");
        let count = KNOCKS[usize::from(thorough)];
        let knocks = json!({ "count": count, "seconds": seconds });
        let seen = stage.attempt(hostile, "knock", knocks).await;
        checks.push(GROUP.judge("vsock connections without end", &seen, refused));
        for (name, kind, sizes) in IN_BAND {
            stage.say(&format!("flooding standard output with {name}"));
            let flood = json!({ "to": "stdout", "kind": kind, "kib": much(sizes) });
            let seen = in_band(stage, hostile, flood).await;
            checks.push(GROUP.judge(name, &seen, |seen| (true, seen.clone())));
        }
        stage.say("a line of 1 GiB");
        checks.push(
            GROUP.judge("a line of 1 GiB", &endless_line(stage, hostile).await, |fault| {
                ended(fault)
            }),
        );
        checks
    };
    let (mut checks, seen) = stage.meanwhile(demo, hostile, attempts).await;
    checks.push(seen.check(&GROUP));
    let daemon = [before, seen.daemon_kib()];
    let (passed, evidence) = held(daemon);
    checks.push(GROUP.check("the daemon's memory is bounded", passed, evidence));
    let logs = disk_use(&hostile.run_dir).map_err(|error| error.to_string());
    checks.push(GROUP.judge("logs are bounded", &logs, |logs| {
        (*logs <= DISK, format!("{} in the VM's folder, at most {}", size(*logs), size(DISK)))
    }));
    checks
}

/// A flood beside the messages has an outcome of its own.
fn written(outcome: &Value) -> (bool, String) {
    let bytes = outcome["bytes"].as_u64().unwrap_or_default();
    let end = outcome["error"].as_str().map(|error| format!(", then {error}")).unwrap_or_default();
    (bytes > 0, format!("{} were written{end}; the server still answers", size(bytes)))
}

/// No connection was accepted. `outcomes` says how often there was each.
fn refused(outcomes: &Value) -> (bool, String) {
    let Some(outcomes) = outcomes.as_object() else { return (false, String::new()) };
    let told: Vec<_> =
        outcomes.iter().map(|(outcome, count)| format!("{count} times {outcome}")).collect();
    (!outcomes.is_empty() && !outcomes.contains_key("connected"), told.join(", "))
}

/// The server, or the next process of it, must be heard again. Evidence is how.
async fn in_band(stage: &Stage, hostile: &VmStatus, flood: Value) -> Seen<String> {
    let before = stage.status(hostile).await?.fault;
    stage.attempt(hostile, "flood", flood).await?;
    // After the flood has begun.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let heard = tokio::time::timeout(PATIENCE, again(stage, hostile)).await;
    heard.map_err(|_| format!("the server is not heard within {} s", PATIENCE.as_secs()))?;
    let status = stage.status(hostile).await?;
    match status.fault.filter(|fault| Some(fault) != before.as_ref()) {
        Some(fault) => Ok(format!("ended: {}; the next process answers", short(&fault))),
        None => Ok("read and passed over; the server still answers".to_owned()),
    }
}

/// Nobody asks meanwhile: an answer would end the line.
async fn endless_line(stage: &Stage, hostile: &VmStatus) -> Seen<String> {
    let before = stage.status(hostile).await?.fault;
    let flood = json!({ "to": "stdout", "kind": "one line", "kib": LINE_KIB });
    stage.attempt(hostile, "flood", flood).await?;
    let told = stage.wait_for(hostile, PATIENCE, |status| status.fault != before).await?;
    let heard = tokio::time::timeout(PATIENCE, again(stage, hostile)).await;
    heard.map_err(|_| "no other process of the server answers".to_owned())?;
    Ok(told.fault.unwrap_or_default())
}

fn ended(fault: &str) -> (bool, String) {
    let evidence = format!("ended: {}; the next process answers", short(fault));
    (fault.contains("a line exceeds"), evidence)
}

/// Asks until there is an answer: the conversation that was flooded may end under a question.
async fn again(stage: &Stage, hostile: &VmStatus) {
    let ask = || stage.attempt(hostile, "read", json!({ "paths": [] }));
    while !matches!(tokio::time::timeout(ANSWER, ask()).await, Ok(Ok(_))) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn held([before, most]: [u64; 2]) -> (bool, String) {
    let evidence = format!("{} before, at most {} meanwhile", size(before << 10), size(most << 10));
    (before > 0 && most > 0 && most <= before + DAEMON_KIB, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_that_wrote_nothing_is_no_proof() {
        assert!(written(&json!({ "bytes": 5, "error": null })).0);
        assert!(!written(&json!({ "bytes": 0, "error": "no such device" })).0);
        assert!(!written(&Value::Null).0);
    }

    #[test]
    fn one_connection_among_many_that_was_accepted_is_one_too_many() {
        let outcomes = json!({ "Connection reset by peer": 499, "connected": 1 });
        let told = "499 times Connection reset by peer, 1 times connected".to_owned();
        assert_eq!(refused(&outcomes), (false, told));
        assert!(refused(&json!({ "Connection reset by peer": 500 })).0);
        assert!(!refused(&json!({})).0);
    }

    #[test]
    fn a_server_that_ended_for_another_reason_is_no_proof_of_a_limit() {
        assert!(ended("the server exceeded a limit: a line exceeds 5 bytes").0);
        assert!(!ended("the server ended the connection: its output ended").0);
    }

    #[test]
    fn a_daemon_that_grows_without_bound_fails_and_one_that_was_not_measured_too() {
        assert!(held([10_000, 90_000]).0);
        assert!(!held([10_000, 10_001 + DAEMON_KIB]).0);
        assert!(!held([0, 0]).0);
    }
}
