//! A hostile server takes the agent's place in its VM and turns on the host: silent, noisy, or lying.

use std::time::Duration;

use osvm_daemon::api::{LogSource, VmStatus};
use serde_json::{Value, json};

use super::check::{Check, Group, Seen, short};
use super::stage::Stage;

const GROUP: Group = Group("in the agent's place");

/// How long the host may take to end such a VM: a lost link is looked for for 10 s, a VM that is asked to
/// power off has 5 s and its VMM 2 s to end. The rest is for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it does, and of the cause the VM must end with, a part for a link that is one serial port and one for
/// a link each of whose streams is a connection of its own.
const LIES: [(&str, &str, [&str; 2]); 4] = [
    ("garbage on the link", "garbage", ["did not come back", USURPED]),
    ("a link that breaks again and again", "flap", ["broke its link", "hangs up"]),
    ("a lying agent", "lie", [USURPED, USURPED]),
    ("a VM that ends itself", "reboot", ["ended by itself", "ended by itself"]),
];
const USURPED: &str = "somebody has taken its place";

/// Five VMs at once, so that their deadlines pass together.
pub(super) async fn checks(stage: &mut Stage, demo: &VmStatus) -> Vec<Check> {
    let mut vms = Vec::new();
    for role in ["garbage", "flap", "lie", "reboot", "silence"] {
        match stage.launch_hostile(role).await {
            Ok(vm) => vms.push(vm),
            Err(error) => {
                return vec![GROUP.check(
                    "VMs to be taken over",
                    false,
                    error.message().to_owned(),
                )];
            }
        }
    }
    stage.say("lies in the agent's place");
    let [garbage, flap, lie, reboot, silence] = vms.as_slice() else { return Vec::new() };
    let stage = &*stage;
    let attempts = async {
        let (garbage, flap, lie, reboot, silence) = tokio::join!(
            usurped(stage, garbage, LIES[0]),
            usurped(stage, flap, LIES[1]),
            usurped(stage, lie, LIES[2]),
            usurped(stage, reboot, LIES[3]),
            silent(stage, silence),
        );
        vec![garbage, flap, lie, reboot, silence]
    };
    let (mut checks, seen) = stage.meanwhile(demo, silence, attempts).await;
    checks.push(seen.check(&GROUP));
    checks
}

/// The host ends the VM by itself, with its cause in the status.
async fn usurped(
    stage: &Stage,
    vm: &VmStatus,
    (name, how, causes): (&'static str, &str, [&str; 2]),
) -> Check {
    let seen = async {
        stage.attempt(vm, "usurp", json!({ "how": how })).await?;
        let ended = stage.wait_for(vm, PATIENCE, |status| status.state == "failed").await?;
        taken(&stage.testimony(vm).await?, how)?;
        Ok(ended.cause.unwrap_or_default())
    };
    GROUP.judge(name, &seen.await, |told: &String| {
        (
            causes.iter().any(|cause| told.contains(cause)),
            format!("the VM has failed: {}", short(told)),
        )
    })
}

/// The server must have said on the console that it had the agent's place.
fn taken(testimony: &[Value], how: &str) -> Seen<()> {
    let mine: Vec<_> = testimony.iter().filter(|said| said["usurp"] == how).collect();
    let begun = |said: &&&Value| said["agent"] == "frozen" || said["outcome"]["got"] == "begun";
    match (mine.iter().find(begun), mine.last()) {
        (Some(_), _) => Ok(()),
        (None, Some(said)) => Err(short(&said.to_string())),
        (None, None) => Err("the hostile server has not said that it began".to_owned()),
    }
}

/// A VM that does not power off when it is asked to is ended all the same.
async fn silent(stage: &Stage, vm: &VmStatus) -> Check {
    let seen = async {
        stage.attempt(vm, "usurp", json!({ "how": "silence" })).await?;
        let frozen = async {
            while taken(&stage.testimony(vm).await?, "silence").is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok::<_, String>(())
        };
        let begun = tokio::time::timeout(PATIENCE, frozen).await;
        begun.map_err(|_| "the agent was not frozen in time".to_owned())??;
        let took = stage.stop(vm).await?;
        Ok((took, stage.log(vm, LogSource::Agent).await?))
    };
    GROUP.judge("a VM that does not power off", &seen.await, |(took, log)| {
        let forced = log.lines().find(|line| line.contains("SIGTERM")).unwrap_or_default();
        let evidence = format!("stopped after {:.1} s: {}", took.as_secs_f64(), short(forced));
        (!forced.is_empty() && *took <= PATIENCE, evidence)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lie_that_was_not_told_is_no_proof() {
        let said = [json!({ "usurp": "lie", "agent": "frozen", "link": "vsock" })];
        assert_eq!(taken(&said, "lie"), Ok(()));
        assert!(taken(&said, "flap").is_err());
        let failed = [json!({ "usurp": "lie", "outcome": { "error": "no cgroups" } })];
        assert!(taken(&failed, "lie").unwrap_err().contains("no cgroups"));
        let reboot = [json!({ "usurp": "reboot", "outcome": { "got": "begun" } })];
        assert_eq!(taken(&reboot, "reboot"), Ok(()));
    }
}
