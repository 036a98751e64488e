//! A hostile server uses up what it was given and asks for more.

use std::time::{Duration, Instant};

use osvm_daemon::api::VmStatus;
use serde::Deserialize;
use serde_json::{Value, json};

use super::check::{Check, Group, Seen, short};
use super::host::disk_use;
use super::stage::{Bystander, HOSTILE_MIB, Stage};
use crate::output::size;

const GROUP: Group = Group("more than it was given");

/// What a hostile server may add to the host's disk, all logs together.
pub(super) const DISK: u64 = 32 << 20;

/// A VMM's threads: its processors' and a pool for what blocks.
const VMM_THREADS: u64 = 80;

/// What an accomplice did and what stopped it.
#[derive(Debug, Deserialize)]
struct Done {
    count: u64,
    ended: String,
    said: String,
}

pub(super) async fn checks(
    stage: &mut Stage,
    demo: &VmStatus,
    hostile: &VmStatus,
    thorough: bool,
) -> Vec<Check> {
    let seconds = if thorough { 30 } else { 3 };
    let before = disk_use(&hostile.run_dir).map_err(|error| error.to_string());
    stage.say("memory beyond its limit");
    let memory = json!({ "what": "memory", "seconds": 60 });
    let (memory, seen) = exhaust(stage, demo, hostile, memory).await;
    let mut checks = vec![
        GROUP.judge("memory ends where the VM's ends", &memory, memory_ended),
        held(hostile, "the VMM stays within memory and overhead", &seen),
        seen.check(&GROUP),
    ];
    stage.say("threads and processes without end");
    let (threads, _) = multiply(stage, demo, hostile, "threads", seconds).await;
    let (bomb, seen) = multiply(stage, demo, hostile, "processes", seconds).await;
    checks.push(GROUP.judge("threads without end stay inside", &threads, stayed));
    checks.push(GROUP.judge("a fork bomb stays inside", &bomb, stayed));
    checks.push(vmm_threads(hostile));
    checks.push(seen.check(&GROUP));
    stage.say("its disk");
    let full = stage.attempt(hostile, "exhaust", json!({ "what": "disk" })).await;
    checks.push(GROUP.judge("its disk is its memory", &full, filled));
    let after = disk_use(&hostile.run_dir).map_err(|error| error.to_string());
    checks.push(GROUP.judge(
        "the host's disk does not grow",
        &before.and_then(|before| Ok((before, after?))),
        grown,
    ));
    if thorough {
        checks.extend(translations(stage, demo, hostile).await);
    }
    checks.extend(processor(stage, demo, hostile).await);
    checks
}

/// What one accomplice did, while others were watched.
async fn exhaust(
    stage: &Stage,
    demo: &VmStatus,
    hostile: &VmStatus,
    what: Value,
) -> (Seen<Done>, Bystander) {
    let attempt = stage.attempt(hostile, "exhaust", what);
    let (seen, bystander) = stage.meanwhile(demo, hostile, attempt).await;
    (seen.and_then(|seen| done(&seen["processes"][0])), bystander)
}

/// For longer where it had no time to begin: a busy machine is slow to start anything.
async fn multiply(
    stage: &Stage,
    demo: &VmStatus,
    hostile: &VmStatus,
    what: &str,
    mut seconds: u64,
) -> (Seen<Done>, Bystander) {
    const LONGEST: u64 = 60;
    loop {
        let work = json!({ "what": what, "seconds": seconds });
        let (done, seen) = exhaust(stage, demo, hostile, work).await;
        if done.as_ref().map_or(true, |done| stayed(done).0) || seconds > LONGEST {
            return (done, seen);
        }
        seconds *= 4;
    }
}

fn done(outcome: &Value) -> Seen<Done> {
    let done = serde_json::from_value(outcome["got"].clone());
    done.map_err(|_| short(&outcome.to_string()))
}

/// By the guest's own kernel, which kills whoever holds most.
fn memory_ended(done: &Done) -> (bool, String) {
    let Done { count, ended, .. } = done;
    let passed = *count < HOSTILE_MIB && *count > 0 && ended == "by signal 9";
    (passed, format!("{count} MiB of {HOSTILE_MIB} MiB were touched, then it ended {ended}"))
}

fn held(hostile: &VmStatus, name: &'static str, seen: &Bystander) -> Check {
    let (most, limit) = (seen.attacker_bytes(), hostile.memory_limit_bytes);
    let evidence = format!("at most {} of {}", size(most), size(limit));
    GROUP.check(name, most > 0 && most <= limit, evidence)
}

fn stayed(Done { count, ended, said }: &Done) -> (bool, String) {
    let why = if said.is_empty() { String::new() } else { format!(": {said}") };
    (*count > 1, format!("{count} were started, then it ended {ended}{why}"))
}

fn vmm_threads(hostile: &VmStatus) -> Check {
    let threads = hostile.pid.and_then(|pid| super::host::figure(pid, "Threads"));
    let evidence = format!("{} threads of the VMM on the host", threads.unwrap_or_default());
    let passed = threads.is_some_and(|threads| threads <= VMM_THREADS);
    GROUP.check("no process of the guest is one of the host", passed, evidence)
}

fn filled(folders: &Value) -> (bool, String) {
    let Some(folders) = folders["folders"].as_array().filter(|folders| !folders.is_empty()) else {
        return (false, "no folder was filled".to_owned());
    };
    let told = |folder: &Value| {
        let words = |name: &str| folder[name].as_str().unwrap_or_default().to_owned();
        format!("{} {} MiB, then {}", words("folder"), folder["mib"], words("error"))
    };
    let bounded = |folder: &Value| folder["mib"].as_u64().is_some_and(|mib| mib < HOSTILE_MIB);
    let evidence = folders.iter().map(told).collect::<Vec<_>>().join("; ");
    (folders.iter().all(bounded), evidence)
}

fn grown(&(before, after): &(u64, u64)) -> (bool, String) {
    let evidence = format!("{} before, {} after, in the VM's folder", size(before), size(after));
    (after <= before + DISK, evidence)
}

/// Only a VMM that emulates has any; another passes by doing nothing.
async fn translations(stage: &Stage, demo: &VmStatus, hostile: &VmStatus) -> Vec<Check> {
    stage.say("more code than can be translated");
    let attempt =
        stage.attempt(hostile, "exhaust", json!({ "what": "translations", "seconds": 60 }));
    let (ran, seen) = stage.meanwhile(demo, hostile, attempt).await;
    let ran = ran.and_then(|ran| match ran["got"].as_object() {
        Some(got) => Ok(Value::Object(got.clone())),
        None => Err(short(&ran.to_string())),
    });
    vec![
        GROUP.judge("a program of a million blocks", &ran, |ran| {
            (true, format!("{} blocks, it ended {}", ran["blocks"], ran["ended"]))
        }),
        held(hostile, "the VMM's translations stay within its overhead", &seen),
    ]
}

/// A neighbour with one busy process gets as much as the hostile server with eight.
async fn processor(stage: &mut Stage, demo: &VmStatus, hostile: &VmStatus) -> Vec<Check> {
    stage.say("processor time beyond its share");
    let neighbour = match stage.launch_hostile("neighbour").await {
        Ok(neighbour) => neighbour,
        Err(error) => {
            let seen: Seen<()> = Err(error.message().to_owned());
            return vec![GROUP.judge(SHARE, &seen, |()| (false, String::new()))];
        }
    };
    let stage = &*stage;
    let busy = |count| json!({ "what": "processor", "seconds": BUSY.as_secs(), "count": count });
    // Between the time that both have begun and the time that either ends.
    let measured = async {
        tokio::time::sleep(BUSY / 4).await;
        let start = Instant::now();
        let before = used(stage, hostile, &neighbour).await?;
        tokio::time::sleep(BUSY / 2).await;
        let after = used(stage, hostile, &neighbour).await?;
        Ok(Share {
            greedy: after.0 - before.0,
            modest: after.1 - before.1,
            wall: start.elapsed(),
            vcpus: f64::from(hostile.vcpus),
        })
    };
    let work = async {
        tokio::join!(
            stage.attempt(hostile, "exhaust", busy(8)),
            stage.attempt(&neighbour, "exhaust", busy(1)),
            measured,
        )
    };
    let ((eight, one, share), seen) = stage.meanwhile(demo, hostile, work).await;
    let share: Seen<Share> = eight.and(one).and(share);
    vec![
        GROUP.judge("processor time ends at its processors", &share, Share::within),
        GROUP.judge(SHARE, &share, Share::fair),
        seen.check(&GROUP),
    ]
}

/// How long both compute.
const BUSY: Duration = Duration::from_secs(8);

const SHARE: &str = "a neighbour gets its share of the processor";

async fn used(stage: &Stage, greedy: &VmStatus, modest: &VmStatus) -> Seen<(f64, f64)> {
    let none = || "the host does not tell the VMM's processor time".to_owned();
    let greedy = stage.status(greedy).await?.cpu_seconds.ok_or_else(none)?;
    Ok((greedy, stage.status(modest).await?.cpu_seconds.ok_or_else(none)?))
}

/// Processor seconds of two VMMs over the same time.
#[derive(Debug)]
struct Share {
    greedy: f64,
    modest: f64,
    wall: Duration,
    vcpus: f64,
}

impl Share {
    /// One more for the VMM's own thread.
    fn within(&self) -> (bool, String) {
        let wall = self.wall.as_secs_f64();
        let evidence = format!(
            "8 busy processes used {:.1} s in {wall:.1} s on {} virtual processors",
            self.greedy, self.vcpus
        );
        (self.greedy > 0.0 && self.greedy <= (self.vcpus + 1.0) * wall + 0.1, evidence)
    }

    fn fair(&self) -> (bool, String) {
        let evidence = format!(
            "its one busy process used {:.1} s while 8 of the other VM's used {:.1} s",
            self.modest, self.greedy
        );
        (self.modest > 0.0 && self.modest * 3.0 >= self.greedy, evidence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(count: u64, ended: &str) -> Done {
        Done { count, ended: ended.to_owned(), said: String::new() }
    }

    #[test]
    fn memory_must_be_touched_and_end_by_the_guests_kernel_below_the_limit() {
        assert!(memory_ended(&ended(90, "by signal 9")).0);
        assert!(!memory_ended(&ended(HOSTILE_MIB, "by signal 9")).0);
        assert!(!memory_ended(&ended(0, "by signal 9")).0);
        assert!(!memory_ended(&ended(90, "when its time was over")).0);
    }

    #[test]
    fn a_disk_larger_than_the_memory_is_somebody_elses() {
        assert!(
            filled(&json!({ "folders": [{ "folder": "/tmp", "mib": 60, "error": "full" }] })).0
        );
        assert!(
            !filled(&json!({ "folders": [{ "folder": "/tmp", "mib": 4000, "error": "full" }] })).0
        );
        assert!(!filled(&json!({ "folders": [] })).0);
        assert!(!grown(&(0, DISK + 1)).0);
    }

    #[test]
    fn a_neighbour_that_starves_fails_and_so_does_a_vm_with_more_processors_than_it_has() {
        let wall = Duration::from_secs(10);
        let share = |greedy, modest| Share { greedy, modest, wall, vcpus: 1.0 };
        assert!(share(9.0, 9.0).fair().0 && share(9.0, 9.0).within().0);
        assert!(!share(9.0, 2.0).fair().0);
        assert!(!share(25.0, 9.0).within().0);
        assert!(!share(0.0, 0.0).within().0, "nothing was measured");
    }

    #[test]
    fn an_accomplice_that_did_not_start_is_no_proof() {
        assert!(done(&json!({ "error": "no such file" })).is_err());
        assert!(!stayed(&ended(0, "with status 1")).0);
    }
}
