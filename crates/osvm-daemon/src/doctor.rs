//! `osvm doctor`: looks at everything a VM needs and says what it found. Changes nothing.

use std::fs;
use std::path::Path;

use osvm_fleet::drivers;
use osvm_fleet::drivers::jail::{LayerState, Standing};
use osvm_image::kernel;
use serde::{Deserialize, Serialize};

use crate::client::Client;
use crate::home::Home;
use crate::host::Host;
use crate::setup;

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finding {
    pub what: String,
    pub verdict: Verdict,
    /// What was found, for people.
    pub found: String,
    /// What to type to mend it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Good,
    /// Works, and could be better.
    Fair,
    /// Servers can't run.
    Bad,
}

/// Everything, in the order a launch needs it.
pub async fn examine(home: &Home, host: &Host) -> Vec<Finding> {
    let mut findings = vec![hardware(host), vmm(host).await, protection(host)];
    findings.extend(layers(host.jail().await.standings()));
    findings.extend([
        kernel_file(home),
        base_image(home),
        runtime_dir(home),
        memory(host),
        daemon(home).await,
    ]);
    findings
}

fn hardware(host: &Host) -> Finding {
    let kvm = host.facts().kvm();
    let finding = match kvm {
        drivers::Kvm::Usable => Finding::new("KVM", Verdict::Good, kvm.to_string()),
        _ => Finding::new("KVM", Verdict::Fair, kvm.to_string()),
    };
    finding.hinted(kvm.hint().map(drivers::hint))
}

async fn vmm(host: &Host) -> Finding {
    let choice = match setup::choose(host) {
        Ok(choice) => choice,
        Err(error) => {
            let finding = Finding::new("VMM", Verdict::Bad, format!("failed to {error}"));
            return finding.hinted(drivers::advice(&error));
        }
    };
    let (version, caveat) = match drivers::ask(&choice, &host.jail().await).await {
        Ok(told) => told,
        Err(why) => return Finding::new("VMM", Verdict::Bad, why).hinted(Some("osvm setup")),
    };
    let (program, accelerator) = (choice.program.display(), choice.accelerator);
    let caveat = caveat.map(|caveat| format!("; {caveat}"));
    let fair = choice.hint.is_some() || caveat.is_some();
    let caveat = caveat.unwrap_or_default();
    let found = format!("{program} {version} with {accelerator}: {}{caveat}", choice.reason);
    let verdict = if fair { Verdict::Fair } else { Verdict::Good };
    Finding::new("VMM", verdict, found).hinted(choice.hint.map(drivers::hint))
}

/// Says which of the two is protecting the user.
fn protection(host: &Host) -> Finding {
    let found = match setup::choose(host).map(|choice| choice.accelerator) {
        Ok(drivers::Accelerator::Kvm) => {
            (Verdict::Good, "hardware virtualization keeps guests apart")
        }
        Ok(drivers::Accelerator::Tcg) => (
            Verdict::Fair,
            "software emulation keeps guests apart: the weaker wall, which QEMU's own documentation \
             does not count as a security boundary",
        ),
        Err(_) => (Verdict::Bad, "nothing: no guest can run"),
    };
    Finding::new("isolation", found.0, found.1.to_owned())
}

/// The layers that a VMM would have around it: those that are on in one finding, and one for each
/// that is not.
fn layers(standings: &[Standing]) -> Vec<Finding> {
    let (on, missing): (Vec<_>, Vec<_>) =
        standings.iter().partition(|standing| standing.state == LayerState::On);
    let on: Vec<_> = on.iter().map(|standing| standing.layer.to_string()).collect();
    let mut findings = vec![Finding::new("jail", Verdict::Good, on.join(", "))];
    findings.extend(missing.into_iter().map(|Standing { layer, state }| {
        let verdict = match state {
            _ if layer.is_required() => Verdict::Bad,
            // Done without, not missed.
            LayerState::Off { .. } => Verdict::Good,
            LayerState::On | LayerState::Impossible { .. } => Verdict::Fair,
        };
        Finding::new("jail", verdict, format!("{layer} is {state}"))
    }));
    findings
}

fn kernel_file(home: &Home) -> Finding {
    match kernel::open(&home.default_kernel()) {
        Ok(kernel) => {
            let report = setup::report(&kernel);
            let found =
                format!("{} ({}), {}", report.version, report.flavour, report.path.display());
            Finding::new("guest kernel", Verdict::Good, found)
        }
        Err(error) => {
            let found = format!("failed to {}", drivers::chain(&error));
            Finding::new("guest kernel", Verdict::Bad, found).hinted(Some("osvm setup"))
        }
    }
}

fn base_image(home: &Home) -> Finding {
    let path = home.default_rootfs();
    let shown = path.display().to_string();
    if path.is_file() {
        return Finding::new("base image", Verdict::Good, shown);
    }
    let missing = format!("{shown} is missing");
    Finding::new("base image", Verdict::Bad, missing).hinted(Some("osvm setup"))
}

fn runtime_dir(home: &Home) -> Finding {
    let dir = home.runtime_dir();
    let shown = dir.display();
    let trial = dir.join(format!(".osvm-doctor-{}", std::process::id()));
    match fs::create_dir(&trial).and_then(|()| fs::remove_dir(&trial)) {
        Ok(()) => Finding::new("runtime directory", Verdict::Good, shown.to_string()),
        Err(error) => {
            let found = format!("can't make folders in {shown}: {error}");
            let hint = "set OSVM_RUNTIME_DIR to a folder of yours";
            Finding::new("runtime directory", Verdict::Bad, found).hinted(Some(hint))
        }
    }
}

fn memory(host: &Host) -> Finding {
    match available_mib(&host.proc) {
        Some(mib @ ..256) => Finding::new("memory", Verdict::Fair, format!("{mib} MiB available")),
        Some(mib) => Finding::new("memory", Verdict::Good, format!("{mib} MiB available")),
        None => Finding::new("memory", Verdict::Fair, "can't be read".to_owned()),
    }
}

fn available_mib(proc: &Path) -> Option<u64> {
    let text = fs::read_to_string(proc.join("meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}

async fn daemon(home: &Home) -> Finding {
    match Client::find(home).await {
        Some(_) => Finding::new("daemon", Verdict::Good, format!("on {}", home.socket().display())),
        None => {
            let found = "not running; the first command that needs it starts it".to_owned();
            Finding::new("daemon", Verdict::Good, found)
        }
    }
}

impl Finding {
    fn new(what: &str, verdict: Verdict, found: String) -> Self {
        Self { what: what.to_owned(), verdict, found, hint: None }
    }

    fn hinted(mut self, hint: Option<&str>) -> Self {
        self.hint = hint.map(str::to_owned);
        self
    }
}

#[cfg(test)]
mod tests {
    use osvm_fleet::drivers::jail::Layer;

    use super::*;

    #[test]
    fn a_layer_that_is_missing_is_told_with_the_reason_and_is_bad_only_when_required() {
        let why = || "no such thing".to_owned();
        let standings = [
            Standing { layer: Layer::NoNewPrivs, state: LayerState::On },
            Standing { layer: Layer::Seccomp, state: LayerState::Impossible { why: why() } },
            Standing { layer: Layer::Rlimits, state: LayerState::On },
        ];
        let findings = layers(&standings);
        let told: Vec<_> = findings.iter().map(|f| (f.verdict, f.found.as_str())).collect();
        let expected = [
            (Verdict::Good, "no new privileges, resource limits"),
            (Verdict::Bad, "system call filter is impossible here: no such thing"),
        ];
        assert_eq!(told, expected);
    }
}
