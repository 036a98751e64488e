//! Guests whose agent is no agent any more: each is ended, with its cause, and nothing waits for it.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use osvm_fleet::Vm;
use osvm_wire::frame::HEADER_LEN;
use osvm_wire::message::{Attached, Event, Refusal, SessionId};

use super::*;

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a guest says instead of what it is asked: one for each stream.
type Lies = Arc<Mutex<VecDeque<Vec<u8>>>>;

/// A guest that answers well while it has no lies to tell.
fn liar(lies: &Lies) -> Fake {
    let lies = Arc::clone(lies);
    Fake::new(move |mut guest: Guest| {
        let lies = Arc::clone(&lies);
        async move {
            let (power_off, _asked) = mpsc::channel(1);
            while let Some((_, mut stream)) = guest.accept().await {
                let lie = lies.lock().unwrap().pop_front();
                match lie {
                    Some(told) => drop(tokio::spawn(async move {
                        let _ = stream.read(&mut [0; 4096]).await;
                        let _ = stream.write_all(&told).await;
                        let _ = stream.read_to_end(&mut Vec::new()).await;
                    })),
                    None => drop(tokio::spawn(answer(stream, power_off.clone()))),
                }
            }
        }
    })
}

fn frame_of(message: &impl Message) -> Vec<u8> {
    frame::encode(message).unwrap()
}

fn changed(at: usize, to: u8) -> Vec<u8> {
    let mut frame = frame_of(&Reply::Prepared);
    frame[at] = to;
    frame
}

/// Answers to Close, whose right answer is Closed.
fn lies() -> Vec<(&'static str, Vec<u8>)> {
    let event = Event::Expired { session: SessionId([5; 16]) };
    vec![
        ("speaks protocol version 255", changed(0, 255)),
        ("frame of kind 3 where kind 2 was due", frame_of(&event)),
        ("bytes, the limit is", changed(5, 255)),
        ("checksum is wrong", changed(HEADER_LEN, 77)),
        ("another question than close", frame_of(&Reply::PoweringOff)),
    ]
}

async fn cause_of(vm: &Vm<Spoken>) -> String {
    match tokio::time::timeout(PATIENCE, vm.ended()).await.unwrap() {
        State::Failed(cause) => cause.message,
        other => panic!("the VM is {other}"),
    }
}

#[tokio::test]
async fn a_guest_that_breaks_the_agents_protocol_in_any_way_is_ended_with_its_cause() {
    for (words, lie) in lies() {
        let told = Lies::default();
        let trial = Trial::with(liar(&told)).await;
        let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
        told.lock().unwrap().push_back(lie);
        vm.close(SessionId([1; 16])).await;
        let cause = cause_of(&vm).await;
        assert!(cause.contains("somebody has taken its place"), "{cause}");
        assert!(cause.contains(words), "{words}: {cause}");
        assert_eq!(trial.run_dirs(), 0);
    }
}

#[tokio::test]
async fn a_session_that_is_resumed_where_it_cannot_be_ends_its_guest() {
    let told = Lies::default();
    let trial = Trial::with(liar(&told)).await;
    let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    let exists = Refusal::SessionExists(SessionId([1; 16]));
    let attached = Attached {
        pid: 2,
        stdin_received: u64::MAX,
        stdin_taken: 0,
        stdin_at_line_start: true,
        stdin_ended: false,
        stdout: 0,
        stderr: 0,
    };
    // An agent that says it has the session already is asked to attach it.
    told.lock().unwrap().push_back(frame_of(&Reply::Refused(exists)));
    told.lock().unwrap().push_back(frame_of(&Reply::Attached(attached)));
    assert!(vm.start_server().await.is_err());
    assert!(cause_of(&vm).await.contains("where no session can be"));
}

#[tokio::test]
async fn a_guest_that_breaks_its_link_again_and_again_is_ended_with_its_cause() {
    let begin = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&begin);
    let fake = Fake::new(move |mut guest: Guest| {
        let told = Arc::clone(&told);
        async move {
            let (power_off, _asked) = mpsc::channel(1);
            let mut beat = tokio::time::interval(Duration::from_millis(20));
            loop {
                let begun = told.load(Ordering::SeqCst);
                tokio::select! {
                    stream = guest.accept() => match stream {
                        Some((_, stream)) if !begun => {
                            tokio::spawn(answer(stream, power_off.clone()));
                        }
                        Some(_) => {}
                        None => return,
                    },
                    _ = beat.tick() => if begun { guest.hang_up() },
                }
            }
        }
    });
    let trial = Trial::with(fake).await;
    let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    begin.store(true, Ordering::SeqCst);
    let cause = cause_of(&vm).await;
    assert!(cause.contains("broke its link"), "{cause}");
    assert_eq!(trial.run_dirs(), 0);
}

#[tokio::test]
async fn a_conversation_that_broke_a_limit_is_noted_its_process_ended_and_the_next_call_has_another()
 {
    let trial = Trial::new().await;
    let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    let first = vm.current().unwrap();
    first.0.send_replace(Some("a line exceeds 5 bytes".to_owned()));
    let noted = async {
        while vm.fault().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noted).await.unwrap();
    assert_eq!(vm.fault().unwrap(), "a line exceeds 5 bytes");
    let next = vm.converse(&Echo, PATIENCE).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &next));
    assert_eq!(vm.state(), State::Ready);
    let log = vm.facts().unwrap().run_dir.join("logs/agent.log");
    assert!(fs::read_to_string(log).unwrap().contains("a line exceeds 5 bytes"));
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_server_that_never_answers() {
    let told = Lies::default();
    let trial = Trial::with(liar(&told)).await;
    let vm = trial.fleet.ensure(trial.plan("a")).await.unwrap();
    vm.current().unwrap().0.send_replace(Some("it has ended".to_owned()));
    // No lie, but silence.
    told.lock().unwrap().extend([Vec::new(), Vec::new(), Vec::new()]);
    let asking = tokio::spawn({
        let vm = Arc::clone(&vm);
        async move { vm.converse(&Echo, PATIENCE).await.err() }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let stopped = tokio::time::timeout(PATIENCE / 3, trial.fleet.stop(&vm.plan.name)).await;
    assert!(stopped.is_ok(), "the stop waits");
    assert_eq!((vm.state(), trial.run_dirs()), (State::Stopped, 0));
    asking.await.unwrap();
}
