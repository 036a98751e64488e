//! Which driver runs a VM: chosen once for each wish, from what the host can do.

use std::sync::Arc;

use osvm_spec::Hypervisor;
use osvm_vmm::choose;
pub use osvm_vmm::choose::{Accelerator, Choice, ChooseError, Hint, HostFacts, Kvm, Programs};
pub use osvm_vmm::firecracker::release;
pub use osvm_vmm::jail::{self, Jail};
pub use osvm_vmm::memory_limit_bytes;
use osvm_vmm::{Driver, VmmError};
use tokio::sync::Mutex;

use crate::state::{Cause, CauseKind};

/// Opened drivers of this host.
pub struct Drivers {
    source: Source,
    opened: Mutex<Vec<(Hypervisor, Arc<dyn Driver>)>>,
}

enum Source {
    Host { facts: HostFacts, programs: Programs, jail: Box<Jail> },
    Fixed(Arc<dyn Driver>),
}

impl Drivers {
    /// Chooses among the programs found on the host, and runs them in `jail`.
    pub fn of_host(facts: HostFacts, programs: Programs, jail: Jail) -> Self {
        Self {
            source: Source::Host { facts, programs, jail: Box::new(jail) },
            opened: Mutex::default(),
        }
    }

    /// Always this one.
    pub fn fixed(driver: Arc<dyn Driver>) -> Self {
        Self { source: Source::Fixed(driver), opened: Mutex::default() }
    }

    /// What stands between the host and whatever serves a guest; none where nothing is really run.
    pub(crate) fn jail(&self) -> Option<&Jail> {
        match &self.source {
            Source::Host { jail, .. } => Some(jail),
            Source::Fixed(_) => None,
        }
    }

    pub(crate) async fn get(&self, wish: Hypervisor) -> Result<Arc<dyn Driver>, Cause> {
        let (facts, programs, jail) = match &self.source {
            Source::Fixed(driver) => return Ok(Arc::clone(driver)),
            Source::Host { facts, programs, jail } => (facts, programs, jail),
        };
        let mut opened = self.opened.lock().await;
        if let Some((_, driver)) = opened.iter().find(|(known, _)| *known == wish) {
            return Ok(Arc::clone(driver));
        }
        let choice = choose::choose(facts, wish, programs).map_err(|error| no_choice(&error))?;
        tracing::info!(program = %choice.program.display(), reason = choice.reason, "VMM chosen");
        let driver = choose::open(&choice, jail).await.map_err(|error| vmm_cause(&error))?;
        if let Some(caveat) = driver.caveat() {
            tracing::warn!("{caveat}");
        }
        opened.push((wish, Arc::clone(&driver)));
        Ok(driver)
    }

    /// The driver of a machine that already runs, by the name it was saved under.
    pub(crate) async fn named(&self, name: &str) -> Result<Arc<dyn Driver>, Cause> {
        for wish in [Hypervisor::Auto, Hypervisor::Qemu, Hypervisor::Firecracker] {
            if let Ok(driver) = self.get(wish).await
                && driver.name() == name
            {
                return Ok(driver);
            }
        }
        Err(Cause::new(CauseKind::Machine, format!("no VMM here can take back a {name} machine")))
    }
}

/// What to type when the host could do better than it does.
pub fn hint(hint: Hint) -> &'static str {
    match hint {
        Hint::JoinKvmGroup => "sudo usermod -aG kvm \"$USER\"   # then log in again",
        Hint::LoadKvmModule => "sudo modprobe kvm_intel || sudo modprobe kvm_amd",
        Hint::InstallFirecracker => "osvm setup --firecracker",
        Hint::InstallQemu => "sudo apt-get install qemu-system-x86",
    }
}

/// The choice for `wish` on this host, for `doctor`.
pub fn explain(
    facts: &HostFacts,
    programs: &Programs,
    wish: Hypervisor,
) -> Result<Choice, ChooseError> {
    choose::choose(facts, wish, programs)
}

/// The chosen program's version, and what the user should know about it, for `doctor`.
pub async fn ask(choice: &Choice, jail: &Jail) -> Result<(String, Option<String>), String> {
    let driver = choose::open(choice, jail).await;
    let driver = driver.map_err(|error| format!("failed to {}", chain(&error)))?;
    Ok((driver.version().to_owned(), driver.caveat()))
}

fn no_choice(error: &ChooseError) -> Cause {
    let cause = Cause::new(CauseKind::Machine, format!("failed to {error}"));
    match advice(error) {
        Some(advice) => cause.hint(advice),
        None => cause,
    }
}

/// What to type when nothing can run a machine.
pub fn advice(error: &ChooseError) -> Option<&'static str> {
    match error {
        ChooseError::Missing { hint: missing, .. } => Some(hint(*missing)),
        ChooseError::NoKvm { hint: absent, .. } => absent.map(hint),
    }
}

pub(crate) fn vmm_cause(error: &VmmError) -> Cause {
    Cause::new(CauseKind::Machine, format!("failed to {}", chain(error))).hint("osvm doctor")
}

/// An error with everything that caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
