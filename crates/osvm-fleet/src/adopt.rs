//! What a new daemon does with the VMs of an earlier one: ready ones are taken back, with their
//! sessions' processes; everything that was half done, or for one task alone, is ended.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use osvm_vmm::{Link, Running};
use osvm_wire::message::{Exit, SessionId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::agent::Agent;
use crate::bed::Bed;
use crate::drivers::chain;
use crate::fleet::Workshop;
use crate::folders;
use crate::greeter::Greeter;
use crate::life::Life;
use crate::logs::Kept;
use crate::record::{ReadyRecord, Record, RecordError, Rest};
use crate::rundir::{RunDir, secrets_mark};
use crate::state::{Cause, CauseKind, State};
use crate::vm::Vm;

/// Longest wait for the agent of a VM that was ready,
const CONNECT: Duration = Duration::from_secs(10);
/// and for all its answers. The daemon serves nobody before, and a guest may tell any number of sessions,
/// or nothing.
const ADOPT: Duration = Duration::from_secs(15);

/// Looks at every run directory of this home, all of them at the same time.
pub(crate) async fn adopt<G: Greeter>(workshop: &Arc<Workshop<G>>) {
    let dirs = RunDir::scan(&workshop.settings.runtime_dir).unwrap_or_else(|error| {
        tracing::warn!(error = chain(&error), "no VM can be adopted");
        Vec::new()
    });
    let looks = dirs.into_iter().map(|dir| look(Arc::clone(workshop), dir));
    futures::future::join_all(looks).await;
    let alive: Vec<_> = workshop.all().iter().map(|vm| vm.id.clone()).collect();
    Bed::sweep(&workshop.settings.home, &alive);
}

async fn look<G: Greeter>(workshop: Arc<Workshop<G>>, dir: RunDir) {
    let record = match Record::load(&dir.record()) {
        Ok(record) if record.home == workshop.settings.home => record,
        Ok(_) => return,
        Err(error) => return orphan(dir, &error),
    };
    if let (Some(Rest::Done), Some(ready)) = (record.rest, &record.ready) {
        end_unrecorded(&workshop.settings.proc, &dir);
        if let Err(error) = dir.empty() {
            tracing::warn!(vm = %record.id, error = chain(&error), "clean-up");
        }
        return sleep_on(workshop, &record, ready, None, dir);
    }
    Bed::of(&workshop.settings.home, &record.id).leave();
    let machine = running(&workshop, &record).await;
    let ready = record.ready.as_ref().filter(|_| !record.plan.is_short());
    if let (Some(machine), Some(ready)) = (&machine, ready) {
        let is_secret = secrets_mark(&ready.facts.run_dir).exists();
        if record.rest == Some(Rest::Begun) && !is_secret && !can_go_on(&workshop, machine).await {
            return sleep_on(workshop, &record, ready, Some(Arc::clone(machine)), dir);
        }
        let taken = take_back(&workshop, &record, ready, Arc::clone(machine));
        let late = |_| Err(format!("its guest did not answer within {} s", ADOPT.as_secs()));
        match tokio::time::timeout(ADOPT, taken).await.unwrap_or_else(late) {
            Ok((vm, link)) => {
                workshop.welcome(&vm);
                tokio::spawn(Life::go_on(workshop, vm, dir, link));
                return;
            }
            Err(why) => tracing::warn!(vm = %record.id, why, "VM can't be taken back"),
        }
    }
    clear(&workshop, &record, machine.as_deref(), dir).await;
}

/// With the machine that is still to be suspended, if it is.
fn sleep_on<G: Greeter>(
    workshop: Arc<Workshop<G>>,
    record: &Record,
    ready: &ReadyRecord,
    machine: Option<Arc<dyn Running>>,
    dir: RunDir,
) {
    let vm = asleep(record, ready);
    if let Some(machine) = machine {
        vm.set_machine(machine);
    }
    workshop.welcome(&vm);
    tokio::spawn(Life::sleep_on(workshop, vm, dir, ready.clone()));
}

/// Whether a machine that may be paused is as good as others once it is resumed.
async fn can_go_on<G: Greeter>(workshop: &Workshop<G>, machine: &Arc<dyn Running>) -> bool {
    let driver = workshop.drivers.named(&machine.saved().driver).await;
    driver.is_ok_and(|driver| driver.capabilities().pause)
}

/// A folder whose daemon died before it wrote the record holds nothing and goes. One whose record
/// can't be believed is left for a person to look at: nobody knows whose it is.
fn orphan(dir: RunDir, error: &RecordError) {
    let shown = dir.path().display().to_string();
    if error.is_missing() && !dir.is_claimed() {
        tracing::info!(dir = shown, "empty run directory, removed");
        dir.discard();
    } else {
        tracing::warn!(dir = shown, error = chain(error), "run directory is left alone");
    }
}

async fn running<G: Greeter>(workshop: &Workshop<G>, record: &Record) -> Option<Arc<dyn Running>> {
    let saved = record.machine.as_ref()?;
    let driver = workshop.drivers.named(&saved.driver).await;
    let driver = driver.inspect_err(|cause| tracing::warn!(%cause, "adopt")).ok()?;
    let machine = driver.adopt(saved).await;
    machine.inspect_err(|error| tracing::info!(error = chain(error), "adopt")).ok().map(Arc::from)
}

/// One that is on disk, or will be. It was given no secrets, or would not be there.
fn asleep<C>(record: &Record, ready: &ReadyRecord) -> Arc<Vm<C>> {
    let vm = Vm::new(record.id.clone(), record.plan.clone(), record.created, State::Suspended);
    vm.set_ready(ready);
    vm.set_used();
    vm.set_agent(Agent::asleep());
    vm.keep_alone(Some(ready.left().session));
    vm.set_left(ready.left());
    Arc::new(vm)
}

async fn take_back<G: Greeter>(
    workshop: &Workshop<G>,
    record: &Record,
    ready: &ReadyRecord,
    machine: Arc<dyn Running>,
) -> Result<(Arc<Vm<G::Conversation>>, Link), String> {
    if record.rest == Some(Rest::Begun) {
        // It may not have been paused yet, or not any more.
        let _ = machine.resume().await;
    }
    let link = machine.connect(CONNECT).await.map_err(|error| chain(&error))?;
    let agent = Agent::new(link.clone());
    agent.hello().await.map_err(|error| chain(&error))?;
    let id = record.id.clone();
    let vm = Arc::new(Vm::new(id, record.plan.clone(), record.created, State::Ready));
    vm.set_ready(ready);
    // By whom, an earlier daemon has known.
    vm.set_used();
    if secrets_mark(&ready.facts.run_dir).exists() {
        vm.set_secret();
    }
    vm.set_machine(machine);
    vm.set_folders(folders::find(workshop.drivers.jail(), &record.id, &record.folders)?);
    vm.set_agent(agent.clone());
    let left = ready.left();
    let session = left.session;
    let resumed = match close_others(&agent, session).await {
        None => vm.resume(&workshop.greeter, &agent, &left).await,
        // Whoever spoke to it next would be told of an end that was not of their doing.
        Some(exit) => Err(Cause::new(CauseKind::Server, format!("the server {exit}"))),
    };
    if let Err(cause) = resumed {
        // The VM is well; its next call starts a new server process.
        tracing::info!(vm = %vm.id, %cause, "server process is replaced");
        vm.close(session).await;
    }
    Ok((vm, link))
}

/// The clients of these sessions went with the earlier daemon. How the process of the one that is kept has ended, if so.
pub(crate) async fn close_others(agent: &Agent, keep: SessionId) -> Option<Exit> {
    let sessions = agent.sessions().await.unwrap_or_default();
    for other in sessions.iter().filter(|other| other.session != keep) {
        let _ = agent.close(other.session).await;
    }
    sessions.iter().find(|kept| kept.session == keep)?.exit
}

async fn clear<G: Greeter>(
    workshop: &Workshop<G>,
    record: &Record,
    machine: Option<&dyn Running>,
    dir: RunDir,
) {
    if let Some(machine) = machine {
        machine.end().await;
    } else {
        end_unrecorded(&workshop.settings.proc, &dir);
    }
    tracing::info!(vm = %record.id, name = %record.plan.name, "left over from an earlier daemon, ended");
    let kept = Kept::new(&workshop.settings.logs_dir, record.plan.server());
    if let Err(error) = dir.remove(&kept.of(record.id.as_str())) {
        tracing::warn!(error = chain(&error), "clean-up");
    }
    kept.prune();
}

/// A daemon that died between starting a VMM and writing that down left a process whose standard
/// error is the log in the run directory: nothing else of it shows from outside its jail. Returns
/// when it is gone.
fn end_unrecorded(proc: &Path, dir: &RunDir) {
    let Ok(log) = fs::metadata(dir.vmm_log()) else { return };
    for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let writes_there = fs::metadata(entry.path().join("fd/2"))
            .is_ok_and(|file| (file.dev(), file.ino()) == (log.dev(), log.ino()));
        if let Some(pid) = Pid::from_raw(pid).filter(|_| writes_there) {
            tracing::info!(pid = pid.as_raw_nonzero(), "VMM without a record, ended");
            if let Err(errno) = end(pid) {
                tracing::info!(%errno, "it had ended already");
            }
        }
    }
}

fn end(pid: Pid) -> rustix::io::Result<()> {
    const LIMIT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    pidfd_send_signal(&process, Signal::KILL)?;
    poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&LIMIT)).map(drop)
}
