//! Servers that wait in templates.

use std::sync::Mutex;

use osvm_fleet::Vm;
use osvm_wire::message::{Attached, Exit, Outcome, Refusal, SessionInfo, Spawn};

use super::*;

/// What guests were asked of sessions, the earliest first.
type Asked = Arc<Mutex<Vec<&'static str>>>;
type Sessions = Arc<Mutex<Vec<SessionInfo>>>;

/// Its server is over at once.
const ENDS: &str = "/bin/ends";
/// Its server does not get over being saved.
const LOST: &str = "/bin/lost";

fn noting(asked: &Asked) -> Fake {
    let asked = Arc::clone(asked);
    Fake::new(move |mut guest: Guest| {
        let (asked, sessions) = (Arc::clone(&asked), Sessions::default());
        async move {
            while let Some((_, stream)) = guest.accept().await {
                tokio::spawn(hear(stream, Arc::clone(&asked), Arc::clone(&sessions)));
            }
        }
    })
}

async fn hear(stream: Stream, asked: Asked, sessions: Sessions) {
    let mut talk = Talk { stream, decoder: Decoder::default() };
    let Some(request) = talk.receive::<Request>().await else { return };
    let note = |what| asked.lock().unwrap().push(what);
    let reply = match request {
        Request::Prepare(_) | Request::GoOn(_) => Reply::Prepared,
        Request::Sessions => Reply::Sessions(sessions.lock().unwrap().clone()),
        Request::Close(_) => Reply::Closed,
        Request::Spawn(spawn) => {
            note("spawn");
            sessions.lock().unwrap().push(begun(&spawn));
            Reply::Spawned { pid: 2 }
        }
        Request::Attach(attach) => {
            note("attach");
            match asked.lock().unwrap().contains(&LOST) {
                true => Reply::Refused(Refusal::NoSuchSession(attach.session)),
                false => Reply::Attached(unspoken()),
            }
        }
        other => panic!("not expected: {other:?}"),
    };
    talk.send(&reply).await;
    if matches!(reply, Reply::Spawned { .. } | Reply::Attached(_)) {
        talk.echo().await;
    }
}

fn begun(spawn: &Spawn) -> SessionInfo {
    let exit = Exit { outcome: Outcome::Code(3), oom_killed: false };
    SessionInfo {
        session: spawn.session,
        pid: 2,
        command: spawn.argv[0].clone(),
        attached: false,
        age_millis: 0,
        exit: (spawn.argv[0] == ENDS).then_some(exit),
    }
}

fn unspoken() -> Attached {
    Attached {
        pid: 2,
        stdin_received: 0,
        stdin_taken: 0,
        stdin_at_line_start: true,
        stdin_ended: false,
        stdout: 0,
        stderr: 0,
    }
}

fn started(trial: &Trial, name: &str, command: &str) -> Plan {
    let command = vec![command.to_owned()];
    Plan { template: TemplateLevel::Started, command, ..trial.plan(name) }
}

fn count(asked: &Asked, what: &str) -> usize {
    asked.lock().unwrap().iter().filter(|asked| **asked == what).count()
}

fn diary(trial: &Trial, vm: &Vm<Spoken>) -> String {
    let log = trial.folder.path().join(format!("runtime/microvm-{}/logs/agent.log", vm.id));
    fs::read_to_string(log).unwrap()
}

#[tokio::test]
async fn a_server_is_started_once_and_waits_in_each_clone() {
    let asked = Asked::default();
    let trial = Trial::with(noting(&asked)).await;
    for name in ["a", "b"] {
        let vm = trial.fleet.ensure(started(&trial, name, "/bin/server")).await.unwrap();
        assert!(vm.facts().unwrap().cloned);
    }
    assert_eq!(*asked.lock().unwrap(), ["spawn", "attach", "attach"]);
    let vm = trial.fleet.ensure(started(&trial, "a", "/bin/server")).await.unwrap();
    vm.start_server().await.unwrap();
    assert_eq!(count(&asked, "spawn"), 2, "only one has waited");
    trial.fleet.ensure(started(&trial, "c", "/bin/other")).await.unwrap();
    assert_eq!(count(&asked, "spawn"), 3, "another command has another template");
    let env = vec![("A".to_owned(), "b".to_owned())];
    let plan = Plan { env, ..started(&trial, "d", "/bin/other") };
    trial.fleet.ensure(plan).await.unwrap();
    assert_eq!(count(&asked, "spawn"), 4, "as has another environment");
}

#[tokio::test]
async fn a_server_that_does_not_wait_is_started_in_a_clone_of_a_guest_without_it() {
    let asked = Asked::default();
    let trial = Trial::with(noting(&asked)).await;
    let vm = trial.fleet.ensure(started(&trial, "a", ENDS)).await.unwrap();
    assert!(vm.facts().unwrap().cloned);
    assert_eq!(*asked.lock().unwrap(), ["spawn", "spawn"]);
    let told = diary(&trial, &vm);
    assert!(told.contains("exited with code 3 before it was spoken to"), "{told}");
    trial.fleet.ensure(started(&trial, "b", ENDS)).await.unwrap();
    assert_eq!(count(&asked, "spawn"), 3, "it is not tried again");
}

#[tokio::test]
async fn one_that_is_lost_in_the_clone_is_replaced() {
    let asked = Asked::default();
    asked.lock().unwrap().push(LOST);
    let trial = Trial::with(noting(&asked)).await;
    let vm = trial.fleet.ensure(started(&trial, "a", "/bin/server")).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), [LOST, "spawn", "attach", "spawn"]);
    let told = diary(&trial, &vm);
    assert!(told.contains("waited in the template is of no use"), "{told}");
}

#[tokio::test]
async fn no_server_waits_that_is_given_something_later() {
    let asked = Asked::default();
    let trial = Trial::with(noting(&asked)).await;
    let secrets = Secrets::from_iter([("TOKEN".to_owned(), "x".to_owned())]);
    let plan = Plan { secrets, ..started(&trial, "a", "/bin/server") };
    assert!(trial.fleet.ensure(plan).await.unwrap().facts().unwrap().cloned);
    let plan = Plan { purpose: Purpose::Work, ..started(&trial, "b", "/bin/server") };
    trial.fleet.ensure(plan).await.unwrap();
    assert_eq!(*asked.lock().unwrap(), ["spawn"], "it is the first one's");
}
