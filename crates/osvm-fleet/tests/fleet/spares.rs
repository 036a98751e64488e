//! Clones that wait for VMs which serve one request each.

use std::fs;
use std::time::Duration;

use osvm_fleet::Plan;
use osvm_fleet::state::State;
use osvm_spec::TemplateLevel;
use rustix::process::{Pid, Signal, kill_process};

use super::{Trial, open};

pub(super) fn once(trial: &Trial, name: &str) -> Plan {
    let server = Some("server".parse().unwrap());
    Plan { template: TemplateLevel::Booted, once: true, server, ..trial.plan(name) }
}

/// Of the machines that there are, once there are so many.
async fn records(trial: &Trial, count: usize) -> Vec<(String, String)> {
    let look = async {
        loop {
            let dirs = fs::read_dir(trial.folder.path().join("runtime")).unwrap().flatten();
            let found: Vec<_> = dirs
                .filter_map(|dir| {
                    let record = fs::read_to_string(dir.path().join("state.json")).ok()?;
                    let name = dir.file_name().into_string().ok()?;
                    record.contains("\"pid\"").then_some((name, record))
                })
                .collect();
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.unwrap()
}

/// Leaves the one clone that waits.
pub(super) async fn serve_one(trial: &Trial, name: &str) -> (String, String) {
    trial.fleet.ensure(once(trial, name)).await.unwrap();
    trial.fleet.stop(&name.parse().unwrap()).await.unwrap();
    records(trial, 1).await.remove(0)
}

#[tokio::test]
async fn the_next_vm_goes_on_as_the_clone_that_waits_for_it_and_another_one_takes_its_place() {
    let trial = Trial::new().await;
    let (waiting, record) = serve_one(&trial, "server.1").await;
    assert!(!record.contains("server.1"), "{record}");
    let vm = trial.fleet.ensure(once(&trial, "server.2")).await.unwrap();
    assert_eq!(waiting, format!("microvm-{}", vm.id));
    assert!(vm.facts().unwrap().cloned);
    records(&trial, 2).await;
    assert_eq!(trial.fleet.list().len(), 1);
    trial.fleet.stop(&"server.2".parse().unwrap()).await.unwrap();
    trial.fleet.clear_spares().await;
    assert_eq!(trial.run_dirs(), 0);
}

#[tokio::test]
async fn a_vm_of_another_plan_does_not_take_it_nor_does_one_that_stays() {
    let trial = Trial::new().await;
    let (waiting, _) = serve_one(&trial, "server.1").await;
    let other = Plan { env: vec![("A".into(), "b".into())], ..once(&trial, "server.2") };
    let stays = Plan { once: false, ..once(&trial, "server.3") };
    for plan in [other, stays] {
        let vm = trial.fleet.ensure(plan).await.unwrap();
        assert_ne!(waiting, format!("microvm-{}", vm.id));
    }
}

#[tokio::test]
async fn one_that_has_died_is_passed_over() {
    let trial = Trial::new().await;
    let (waiting, record) = serve_one(&trial, "server.1").await;
    let pid = record.split("\"pid\":").nth(1).unwrap().split([',', '}']).next().unwrap();
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    let vm = trial.fleet.ensure(once(&trial, "server.2")).await.unwrap();
    assert_eq!(vm.state(), State::Ready);
    trial.fleet.stop(&"server.2".parse().unwrap()).await.unwrap();
    trial.fleet.clear_spares().await;
    assert_eq!(trial.run_dirs(), 0, "{waiting}");
}

#[tokio::test]
async fn one_of_a_template_that_is_outdated_is_replaced_under_its_id() {
    let trial = Trial::new().await;
    let (waiting, _) = serve_one(&trial, "server.1").await;
    let kernel = trial.folder.path().join("vmlinux");
    fs::copy(&kernel, kernel.with_extension("new")).unwrap();
    fs::rename(kernel.with_extension("new"), &kernel).unwrap();
    let vm = trial.fleet.ensure(once(&trial, "server.2")).await.unwrap();
    assert_eq!(waiting, format!("microvm-{}", vm.id));
    let made = fs::read_dir(trial.folder.path().join("templates")).unwrap().count();
    assert_eq!(made, 2);
}

#[tokio::test]
async fn one_that_an_earlier_daemon_has_left_is_ended() {
    let trial = Trial::new().await;
    serve_one(&trial, "server.1").await;
    let _next = open(trial.folder.path(), &trial.fake).await;
    assert_eq!(trial.run_dirs(), 0);
}
