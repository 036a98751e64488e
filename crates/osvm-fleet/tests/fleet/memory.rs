//! Who gives memory back when it is short, and what is set aside for whom.

use std::sync::Mutex;

use async_trait::async_trait;
use osvm_vmm::{Capabilities, Machine, Process, Running, Saved, Template, VmmError};

use super::rehearsals::{Rehearsed, noting, on_disk, rehearse};
use super::spares::{once, serve_one};
use super::*;

/// What is kept for a host of 8 GiB.
const KEPT: u64 = 512;

impl Trial {
    /// A host that has so many MiB beyond what is kept, and tells of no process.
    fn has(&self, mib: u64) {
        let proc = self.folder.path().join("proc");
        let _ = fs::remove_file(&proc);
        fs::create_dir_all(&proc).unwrap();
        let available = (KEPT + mib) << 10;
        let text = format!("MemTotal: 8388608 kB\nMemAvailable: {available} kB\n");
        fs::write(proc.join("meminfo"), text).unwrap();
        fs::copy("/proc/cpuinfo", proc.join("cpuinfo")).unwrap();
    }

    /// This host, which tells of its processes.
    fn has_processes(&self) {
        let proc = self.folder.path().join("proc");
        fs::remove_dir_all(&proc).unwrap();
        std::os::unix::fs::symlink("/proc", proc).unwrap();
    }

    async fn is_refused(&self, plan: Plan, needs: &str) {
        let cause = self.fleet.ensure(plan).await.err().unwrap();
        assert!(cause.message.contains(&format!("needs about {needs} MiB")), "{cause}");
    }

    fn clone(&self, name: &str) -> Plan {
        Plan { template: TemplateLevel::Booted, ..self.plan(name) }
    }
}

/// Notes of each template that is loaded whether all machines that were started had ended by then.
#[derive(Clone)]
struct Loads {
    fake: Fake,
    started: Arc<Mutex<Vec<Process>>>,
    noted: Arc<Mutex<Vec<bool>>>,
}

impl Loads {
    async fn of(fake: Fake) -> (Trial, Self) {
        let mut trial = Trial::with(fake.clone()).await;
        let loads = Self { fake, started: Arc::default(), noted: Arc::default() };
        trial.fleet = open_with(trial.folder.path(), Arc::new(loads.clone())).await;
        (trial, loads)
    }

    fn noted(&self) -> Vec<bool> {
        self.noted.lock().unwrap().clone()
    }
}

#[async_trait]
impl Driver for Loads {
    fn name(&self) -> &'static str {
        self.fake.name()
    }

    fn version(&self) -> &str {
        self.fake.version()
    }

    fn accelerator(&self) -> &'static str {
        self.fake.accelerator()
    }

    fn capabilities(&self) -> Capabilities {
        self.fake.capabilities()
    }

    async fn start(&self, machine: &Machine) -> Result<Box<dyn Running>, VmmError> {
        let running = self.fake.start(machine).await?;
        self.started.lock().unwrap().push(running.process().clone());
        Ok(running)
    }

    async fn adopt(&self, saved: &Saved) -> Result<Box<dyn Running>, VmmError> {
        self.fake.adopt(saved).await
    }

    async fn load(&self, folder: &Path) -> Result<Arc<dyn Template>, VmmError> {
        let all_ended = self.started.lock().unwrap().iter().all(|one| one.try_exited().is_some());
        self.noted.lock().unwrap().push(all_ended);
        self.fake.load(folder).await
    }
}

#[tokio::test]
async fn a_machine_has_ended_before_the_template_that_it_was_saved_as_takes_memory() {
    let (trial, loads) = Loads::of(noting(&Rehearsed::default())).await;
    trial.fleet.ensure(on_disk(&trial, "a")).await.unwrap();
    rehearse(&trial, true).await;
    assert_eq!(loads.noted(), [true, true], "one of a VM that waits, one of a rehearsal");
}

#[tokio::test]
async fn where_memory_is_short_templates_are_closed_of_which_no_vm_is() {
    let (trial, loads) = Loads::of(Fake::new(agent)).await;
    trial.has(4096);
    let visit = trial.fleet.ensure(trial.clone("a")).await.unwrap().visit();
    let short = async || {
        trial.has(8);
        trial.is_refused(trial.plan("more"), "160").await;
        trial.has(4096);
    };
    short().await;
    trial.fleet.close_templates(Duration::ZERO);
    trial.fleet.ensure(trial.clone("b")).await.unwrap();
    assert_eq!(loads.noted().len(), 1, "another copy would have taken more");
    drop(visit);
    let stop = async |name: &str| trial.fleet.stop(&name.parse().unwrap()).await.unwrap();
    for name in ["a", "b"] {
        stop(name).await;
    }
    short().await;
    trial.fleet.ensure(trial.clone("c")).await.unwrap();
    assert_eq!(loads.noted().len(), 2);
    stop("c").await;
    // Otherwise they are after a while.
    for (unused, opened) in [(Duration::from_secs(60), 2), (Duration::ZERO, 3)] {
        trial.fleet.close_templates(unused);
        trial.fleet.ensure(trial.clone("d")).await.unwrap();
        assert_eq!(loads.noted().len(), opened);
        stop("d").await;
    }
}

#[tokio::test]
async fn where_memory_is_short_clones_that_wait_are_ended() {
    let trial = Trial::new().await;
    trial.has(4096);
    serve_one(&trial, "server.1").await;
    assert_eq!(trial.run_dirs(), 1);
    trial.has(8);
    trial.is_refused(trial.plan("more"), "160").await;
    assert_eq!(trial.run_dirs(), 0);
}

#[tokio::test]
async fn a_clone_that_waits_is_had_where_another_one_would_not_fit() {
    let trial = Trial::new().await;
    trial.has(4096);
    let (waiting, _) = serve_one(&trial, "server.1").await;
    trial.has(100);
    let vm = trial.fleet.ensure(once(&trial, "server.2")).await.unwrap();
    assert_eq!(waiting, format!("microvm-{}", vm.id));
    trial.is_refused(once(&trial, "server.3"), "160").await;
}

#[tokio::test]
async fn a_vm_that_is_woken_needs_what_is_on_disk_of_it_and_teaches_nothing() {
    let trial = Trial::new().await;
    trial.has(4096);
    let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    trial.fleet.suspend(&vm.plan.name).await.unwrap();
    let bed = trial.folder.path().join("suspended").join(vm.id.as_str());
    fs::write(bed.join("memory"), vec![7; 128 << 20]).unwrap();
    trial.has(190);
    trial.is_refused(trial.plan("a"), "192").await;
    assert_eq!(vm.state(), State::Suspended);
    trial.has_processes();
    trial.fleet.ensure(trial.plan("a")).await.unwrap();
    assert_eq!(vm.state(), State::Ready);
    trial.has(100);
    trial.is_refused(trial.plan("b"), "160").await;
}
