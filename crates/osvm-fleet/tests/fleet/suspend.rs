//! Suspended VMs: who wakes them, what keeps them awake, and what is left of them.

use std::path::PathBuf;

use osvm_fleet::Vm;

use super::*;

impl Trial {
    fn beds(&self) -> Vec<PathBuf> {
        let beds = fs::read_dir(self.folder.path().join("suspended"));
        beds.into_iter().flatten().map(|bed| bed.unwrap().path()).collect()
    }

    async fn suspended(&self, name: &str) -> Arc<Vm<Spoken>> {
        let vm = self.fleet.ensure(self.plan(name)).await.unwrap();
        self.fleet.suspend(&vm.plan.name).await.unwrap().unwrap();
        assert_eq!((vm.state(), vm.pid()), (State::Suspended, None));
        vm
    }

    /// Has the host have so much memory available that one more VM fits, or does not.
    fn memory(&self, fits: bool) {
        let proc = self.folder.path().join("proc");
        let _ = fs::remove_file(&proc);
        fs::create_dir_all(&proc).unwrap();
        let available = if fits { 4_194_304 } else { 532_480 };
        let text = format!("MemTotal: 8388608 kB\nMemAvailable: {available} kB\n");
        fs::write(proc.join("meminfo"), text).unwrap();
    }
}

#[tokio::test]
async fn a_suspended_vm_has_no_process_and_is_woken_by_whoever_wants_something_of_it() {
    let trial = Trial::new().await;
    let vm = trial.suspended("a").await;
    assert_eq!((trial.beds().len(), trial.run_dirs()), (1, 1));
    trial.fleet.suspend(&vm.plan.name).await.unwrap().unwrap();
    assert_eq!(vm.state(), State::Suspended, "once more is no more");
    vm.start_server().await.unwrap();
    assert_eq!(vm.state(), State::Ready);
    assert!(vm.pid().is_some() && trial.beds().is_empty());
    // Or by the next one that needs it.
    trial.fleet.suspend(&vm.plan.name).await.unwrap().unwrap();
    let again = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    assert_eq!((&again.id, again.state()), (&vm.id, State::Ready));
}

#[tokio::test]
async fn a_vm_that_has_something_to_do_stays_awake() {
    let trial = Trial::new().await;
    let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    let visit = vm.visit();
    let cause = trial.fleet.suspend(&vm.plan.name).await.err().unwrap();
    assert_eq!(cause.message, "VM of server a can't be suspended: it is in use");
    assert_eq!((vm.state(), cause.kind), (State::Ready, CauseKind::Conflict));
    visit.rest();
    trial.fleet.suspend(&vm.plan.name).await.unwrap();
    assert_eq!((vm.state(), vm.visits()), (State::Suspended, 1));
}

#[tokio::test]
async fn what_must_reach_no_disk_and_what_others_may_change_keeps_a_vm_from_being_suspended() {
    let trial = Trial::new().await;
    let secrets = [("TOKEN".to_owned(), "s".to_owned())].into_iter().collect();
    let secret = Plan { secrets, ..trial.plan("secret") };
    let once = Plan { once: true, ..trial.plan("once") };
    for (plan, why) in [(secret, "secrets"), (once, "one task")] {
        let vm = trial.fleet.ensure(plan).await.unwrap();
        let cause = trial.fleet.suspend(&vm.plan.name).await.err().unwrap();
        assert_eq!(cause.kind, CauseKind::Refused);
        assert!(cause.message.contains(why), "{cause}");
        assert_eq!(vm.state(), State::Ready);
    }
    // One that a later caller has brought is in its memory as well.
    let vm = trial.fleet.ensure(trial.plan("late")).await.unwrap();
    let secrets = [("TOKEN".to_owned(), "s".to_owned())].into_iter().collect();
    trial.fleet.ensure(Plan { secrets, ..trial.plan("late") }).await.unwrap();
    assert!(trial.fleet.suspend(&vm.plan.name).await.is_err());
    assert!(trial.beds().is_empty());
}

#[tokio::test]
async fn a_suspended_vm_that_is_stopped_leaves_nothing() {
    let trial = Trial::new().await;
    let vm = trial.suspended("a").await;
    trial.fleet.stop(&vm.plan.name).await.unwrap();
    assert_eq!(vm.state(), State::Stopped);
    assert_eq!((trial.beds().len(), trial.run_dirs()), (0, 0));
}

#[tokio::test]
async fn one_that_can_not_be_woken_now_is_woken_another_time_and_given_up_in_the_end() {
    let trial = Trial::new().await;
    let vm = trial.suspended("a").await;
    let fails = || trial.fake.inject(Fault::StartFails("no room".to_owned()));
    fails();
    let cause = trial.fleet.ensure(trial.plan("a")).await.err().unwrap();
    assert!(
        cause.message.contains("wake the guest") && cause.message.contains("no room"),
        "{cause}"
    );
    assert_eq!((vm.state(), trial.beds().len()), (State::Suspended, 1));
    trial.fleet.ensure(trial.plan("a")).await.unwrap();
    assert_eq!(vm.state(), State::Ready);

    trial.fleet.suspend(&vm.plan.name).await.unwrap();
    for _ in 0..3 {
        fails();
        trial.fleet.ensure(trial.plan("a")).await.err().unwrap();
    }
    let State::Failed(cause) = vm.ended().await else { panic!("{}", vm.state()) };
    assert!(cause.message.contains("no room"), "{cause}");
    assert_eq!((trial.beds().len(), trial.run_dirs()), (0, 0));
    assert_ne!(trial.fleet.ensure(trial.plan("a")).await.unwrap().id, vm.id);
}

#[tokio::test]
async fn one_that_the_disk_has_no_room_for_is_woken_when_it_has() {
    let trial = Trial::new().await;
    let vm = trial.suspended("a").await;
    for _ in 0..5 {
        trial.fake.inject(Fault::DiskFull);
        let cause = trial.fleet.ensure(trial.plan("a")).await.err().unwrap();
        assert!(cause.message.contains("write a guest's memory to"), "{cause}");
        assert_eq!((vm.state(), trial.beds().len()), (State::Suspended, 1));
    }
    trial.fleet.ensure(trial.plan("a")).await.unwrap();
    assert_eq!(vm.state(), State::Ready);
}

#[tokio::test]
async fn a_disk_that_has_no_room_leaves_the_vm_as_it_is() {
    let trial = Trial::new().await;
    let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    let pid = vm.pid();
    // Where its folder would be made.
    fs::write(trial.folder.path().join("suspended"), "in the way").unwrap();
    let cause = trial.fleet.suspend(&vm.plan.name).await.err().unwrap();
    assert!(cause.message.starts_with("failed to suspend a VM to "), "{cause}");
    assert_eq!((vm.state(), vm.pid()), (State::Ready, pid));
    vm.start_server().await.unwrap();
}

#[tokio::test]
async fn a_later_daemon_finds_it_suspended_and_wakes_it_when_it_is_wanted() {
    let mut trial = Trial::new().await;
    let id = trial.suspended("a").await.id.clone();
    let bed = trial.beds().pop().unwrap();
    fs::create_dir(bed.with_file_name("of-nobody")).unwrap();
    trial.fleet = open(trial.folder.path(), &trial.fake).await;
    let vm = trial.fleet.get(&"a".parse().unwrap()).unwrap();
    assert_eq!((&vm.id, vm.state()), (&id, State::Suspended));
    assert_eq!(trial.beds(), [bed]);
    assert!(vm.facts().is_some_and(|facts| facts.command == ["/bin/server"]));
    vm.start_server().await.unwrap();
    assert_eq!((vm.state(), trial.beds().len()), (State::Ready, 0));
}

#[test]
fn what_an_earlier_daemon_has_begun_is_done_where_its_machine_can_not_go_on() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (can_go_on, is_secret) in [(false, false), (false, true), (true, false)] {
        let (first, next) = (runtime(), runtime());
        let (trial, pid) = first.block_on(async {
            let fake = Fake::new(agent);
            let trial = Trial::with(if can_go_on { fake } else { fake.without_pause() }).await;
            let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
            (trial, vm.pid().unwrap())
        });
        // Killed, and with it all that it does, at once.
        drop(first);
        let runtime_dir = fs::read_dir(trial.folder.path().join("runtime")).unwrap();
        let run_dir = runtime_dir.last().unwrap().unwrap().path();
        has_begun(&run_dir.join("state.json"));
        if is_secret {
            fs::write(run_dir.join("holds-secrets"), "").unwrap();
        }
        next.block_on(async {
            let fleet = open(trial.folder.path(), &trial.fake).await;
            let vm = fleet.get(&"a".parse().unwrap());
            if can_go_on || is_secret {
                // It is taken back as it is; the fake's guest has died with its daemon.
                assert!(vm.is_none_or(|vm| vm.state() != State::Suspended));
                return assert!(trial.beds().is_empty());
            }
            let vm = vm.unwrap();
            while vm.pid().is_some() {
                tokio::task::yield_now().await;
            }
            assert_eq!((vm.state(), trial.beds().len()), (State::Suspended, 1));
            // Its parent, which this process is, may not have heard of it.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
            assert!(stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")));
        });
    }
}

/// Has the record say that the VM was about to be suspended.
fn has_begun(record: &Path) {
    let text = fs::read_to_string(record).unwrap();
    let (head, vm) = text.split_once("\"vm\":").unwrap();
    let vm = vm.strip_suffix('}').unwrap();
    let begun = vm.replace("\"rest\":null", "\"rest\":\"begun\"");
    assert_ne!(vm, begun);
    let sum = |vm: &str| crc32fast::hash(vm.as_bytes()).to_string();
    let head = head.replace(&sum(vm), &sum(&begun));
    fs::write(record, format!("{head}\"vm\":{begun}}}")).unwrap();
}

#[tokio::test]
async fn an_idle_vm_is_suspended_first_and_ended_later() {
    let trial = Trial::new().await;
    let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    let mine = Plan { started_by: StartedBy::User, ..trial.plan("mine") };
    let mine = trial.fleet.ensure(mine).await.unwrap();
    let (now, long) = (Some(Duration::ZERO), Some(Duration::from_secs(3600)));
    let limits = Idle { suspend: now, stop: long, stop_suspended: long };
    // A client that waits for nothing keeps it from being ended alone.
    let visit = vm.visit();
    visit.rest();
    trial.fleet.settle_idle(&limits);
    vm.states().wait_for(|state| *state == State::Suspended).await.unwrap();
    let ended = Idle { stop_suspended: now, ..limits };
    trial.fleet.settle_idle(&ended);
    assert_eq!(vm.state(), State::Suspended);
    drop(visit);
    let later = Idle { suspend: None, ..limits };
    assert!(trial.fleet.settle_idle(&later) > Some(Duration::from_secs(3500)));
    trial.fleet.settle_idle(&ended);
    assert_eq!(vm.ended().await, State::Stopped);
    assert_eq!(mine.state(), State::Ready);
}

#[tokio::test]
async fn where_memory_is_short_the_idlest_vm_is_suspended_and_none_that_works() {
    let trial = Trial::new().await;
    trial.memory(true);
    let mut vms = Vec::new();
    for name in ["busy", "idlest", "idle"] {
        vms.push(trial.fleet.ensure(trial.plan(name)).await.unwrap());
    }
    let _work = vms[0].visit();
    let refused = |cause: Cause| cause.message.contains("MiB of memory are available");
    trial.memory(false);
    // None has been idle for long enough to be called so.
    assert!(trial.fleet.ensure(trial.plan("more")).await.is_err_and(refused));
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(vms[2].visit());
    let (launched, ()) = tokio::join!(trial.fleet.ensure(trial.plan("more")), async {
        vms[1].states().wait_for(|state| *state == State::Suspended).await.unwrap();
        trial.memory(true);
    });
    assert_eq!(launched.unwrap().state(), State::Ready);
    assert_eq!((vms[0].state(), vms[2].state()), (State::Ready, State::Ready));
}
