//! VMs that are asked to stop, and those who want them meanwhile.

use super::*;

#[tokio::test]
async fn who_wants_a_vm_that_is_to_stop_while_it_starts_gets_a_new_one() {
    let trial = Trial::new().await;
    let interrupted = trial.boots_in_vain("a").await;
    let old = Arc::clone(interrupted.vm());
    drop(interrupted);
    assert_eq!(old.state(), State::Booting, "it has not heard of it yet");
    let refused = trial.fleet.launch(trial.plan("a")).await.err().unwrap();
    assert!(refused.message.ends_with("which is stopping"), "{refused}");
    let new = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    assert_ne!(new.id, old.id);
    assert_eq!((old.state(), new.state()), (State::Stopped, State::Ready));
    assert_eq!(trial.run_dirs(), 1);
}

#[tokio::test]
async fn who_wants_a_vm_that_is_to_stop_while_it_is_ready_or_suspended_gets_a_new_one() {
    let trial = Trial::new().await;
    for state in [State::Ready, State::Suspended] {
        let old = trial.fleet.ensure(trial.plan("a")).await.unwrap();
        if state == State::Suspended {
            trial.fleet.suspend(&old.plan.name).await.unwrap();
        }
        old.ask_to_stop();
        assert_eq!(old.state(), state, "it has not heard of it yet");
        let new = trial.fleet.ensure(trial.plan("a")).await.unwrap();
        assert_ne!(new.id, old.id, "{state}");
        assert_eq!((old.state(), new.state()), (State::Stopped, State::Ready), "{state}");
    }
}

#[tokio::test]
async fn those_who_wait_for_a_vm_that_is_stopped_are_told_which_and_when() {
    let trial = Trial::new().await;
    let launch = trial.boots_in_vain("a").await;
    let vm = Arc::clone(launch.vm());
    let (waited, _) = tokio::join!(launch.ready(), trial.fleet.stop(&vm.plan.name));
    let cause = waited.err().unwrap();
    let told = format!("VM {} of server a was stopped while it started", vm.id);
    assert_eq!((cause.kind, cause.message), (CauseKind::Cancelled, told));
    assert_eq!(cause.hints, ["try again", "osvm mcp microvm status"]);

    let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    trial.fleet.suspend(&vm.plan.name).await.unwrap();
    let wakes = trial.fleet.ensure(trial.plan("a"));
    let (waited, _) = tokio::join!(wakes, trial.fleet.stop(&vm.plan.name));
    let cause = waited.err().unwrap();
    let told = format!("VM {} of server a was stopped before it could be used", vm.id);
    assert_eq!((cause.kind, cause.message), (CauseKind::Cancelled, told));
}

#[tokio::test]
async fn to_end_a_vm_is_not_to_end_the_one_that_has_its_name_now() {
    let trial = Trial::new().await;
    let old = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    trial.fleet.end(&old).await;
    let new = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    trial.fleet.end(&old).await;
    assert_eq!(new.state(), State::Ready);
    assert_eq!(trial.fleet.get(&new.plan.name).unwrap().id, new.id);
}
