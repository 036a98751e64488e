//! Servers that run once for the template of later VMs.

use std::path::PathBuf;
use std::sync::Mutex;

use osvm_wire::message::Spawn;

use super::*;

const NOW: Duration = Duration::ZERO;
const LONG: Duration = Duration::from_secs(3600);

/// What the guests were told to start once.
pub(super) type Rehearsed = Arc<Mutex<Vec<Spawn>>>;

/// A guest that is asked nothing but what a launch asks, and a rehearsal.
pub(super) fn noting(rehearsed: &Rehearsed) -> Fake {
    let rehearsed = Arc::clone(rehearsed);
    Fake::new(move |mut guest: Guest| {
        let rehearsed = Arc::clone(&rehearsed);
        async move {
            while let Some((_, stream)) = guest.accept().await {
                tokio::spawn(hear(stream, Arc::clone(&rehearsed)));
            }
        }
    })
}

async fn hear(stream: Stream, rehearsed: Rehearsed) {
    let mut talk = Talk { stream, decoder: Decoder::default() };
    let Some(request) = talk.receive::<Request>().await else { return };
    let reply = match request {
        Request::Prepare(_) => Reply::Prepared,
        Request::Sessions => Reply::Sessions(Vec::new()),
        Request::Close(_) => Reply::Closed,
        Request::Spawn(_) => Reply::Spawned { pid: 2 },
        Request::Rehearse(spawn) => {
            rehearsed.lock().unwrap().push(spawn);
            Reply::Spawned { pid: 2 }
        }
        other => panic!("not expected: {other:?}"),
    };
    talk.send(&reply).await;
    talk.echo().await;
}

/// Of a server whose image is a disk.
pub(super) fn on_disk(trial: &Trial, name: &str) -> Plan {
    let root = trial.folder.path().join("root");
    if !root.exists() {
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::write(root.join("bin/server"), "x").unwrap();
    }
    let (rootfs, command) = (Rootfs::Path(root), vec!["/bin/server".to_owned()]);
    Plan { template: TemplateLevel::Booted, rootfs, command, ..trial.plan(name) }
}

fn templates(trial: &Trial) -> Vec<PathBuf> {
    let all = fs::read_dir(trial.folder.path().join("templates")).unwrap().flatten();
    all.map(|entry| entry.path()).filter(|path| path.join("template.json").exists()).collect()
}

/// To the end of one, if there is to be one.
pub(super) async fn rehearse(trial: &Trial, is_wanted: bool) {
    assert_eq!(trial.fleet.rehearse_if_quiet(NOW), is_wanted);
    until(|| !trial.fleet.rehearse_if_quiet(LONG)).await;
}

/// Looks until it is so.
async fn until(what: impl Fn() -> bool) {
    let look = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.unwrap();
}

#[tokio::test]
async fn a_server_rehearses_when_all_is_quiet_and_later_vms_begin_from_that() {
    let rehearsed = Rehearsed::default();
    let trial = Trial::with(noting(&rehearsed)).await;
    let env = vec![("KEY".to_owned(), "of the user".to_owned())];
    let secrets = Secrets::from_iter([("TOKEN".to_owned(), "x".to_owned())]);
    let plan = Plan { env, secrets, ..on_disk(&trial, "a") };
    trial.fleet.ensure(plan.clone()).await.unwrap();
    let plain = templates(&trial);
    assert_eq!(plain.len(), 1);
    assert!(!trial.fleet.rehearse_if_quiet(LONG));
    rehearse(&trial, true).await;
    assert_eq!((templates(&trial).len(), trial.run_dirs()), (2, 1));
    let told = rehearsed.lock().unwrap().clone();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].argv, ["/bin/server"]);
    assert_eq!(told[0].env, [], "neither the user's variables nor secrets");

    fs::remove_dir_all(&plain[0]).unwrap();
    let other =
        Plan { env: Vec::new(), secrets: Secrets::default(), name: "b".parse().unwrap(), ..plan };
    assert!(trial.fleet.ensure(other).await.unwrap().facts().unwrap().cloned);
    assert_eq!(templates(&trial).len(), 1, "no other one was needed");
    rehearse(&trial, false).await;
    let third = Plan { command: vec!["/bin/other".to_owned()], ..on_disk(&trial, "c") };
    trial.fleet.ensure(third).await.unwrap();
    assert_eq!(templates(&trial).len(), 2, "another command begins without");
    assert_eq!(rehearsed.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_rehearses_while_a_vm_has_something_to_do_or_where_there_are_no_pages_to_read() {
    let rehearsed = Rehearsed::default();
    let trial = Trial::with(noting(&rehearsed)).await;
    let vm = trial.fleet.ensure(on_disk(&trial, "a")).await.unwrap();
    let visit = vm.visit();
    rehearse(&trial, false).await;
    drop(visit);
    rehearse(&trial, true).await;
    assert_eq!(templates(&trial).len(), 2);
    let archive = Plan { template: TemplateLevel::Booted, ..trial.plan("b") };
    trial.fleet.ensure(archive).await.unwrap();
    trial.fleet.ensure(Plan { purpose: Purpose::Work, ..on_disk(&trial, "c") }).await.unwrap();
    rehearse(&trial, false).await;
    assert_eq!(rehearsed.lock().unwrap().len(), 1);
    assert_eq!(trial.run_dirs(), 3);
}

#[tokio::test]
async fn a_rehearsal_that_fails_leaves_nothing_and_is_not_tried_again() {
    let rehearsed = Rehearsed::default();
    let trial = Trial::with(noting(&rehearsed)).await;
    trial.fleet.ensure(on_disk(&trial, "a")).await.unwrap();
    trial.fake.inject(Fault::StartFails("no room".to_owned()));
    rehearse(&trial, true).await;
    assert_eq!(trial.run_dirs(), 1);
    trial.fleet.ensure(on_disk(&trial, "b")).await.unwrap();
    rehearse(&trial, true).await;
    assert_eq!((templates(&trial).len(), rehearsed.lock().unwrap().len()), (1, 0));
    assert_eq!(trial.run_dirs(), 2);
}

#[tokio::test]
async fn a_rehearsal_ends_with_the_daemon() {
    let trial = Trial::with(noting(&Rehearsed::default())).await;
    trial.fleet.ensure(on_disk(&trial, "a")).await.unwrap();
    trial.fake.inject(Fault::NeverAnswers);
    trial.fleet.rehearse_if_quiet(NOW);
    until(|| trial.run_dirs() == 2).await;
    trial.fleet.clear_spares().await;
    assert_eq!(trial.run_dirs(), 1);
    let drafts = fs::read_dir(trial.folder.path().join("templates")).unwrap().count();
    assert_eq!(drafts, 1);
}
