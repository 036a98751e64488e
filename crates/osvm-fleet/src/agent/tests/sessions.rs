//! Sessions as their users see them.

use std::time::Duration;

use osvm_wire::message::{SessionId, Spawn};
use osvm_wire::session::WINDOW;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::guest::{EXIT, Guest, Link};
use crate::agent::{Agent, Output, Session, Stdin};

/// Long enough for any machine; a test that needs it has failed.
const DEADLINE: Duration = Duration::from_secs(60);

const ID: SessionId = SessionId([1; 16]);

async fn spawn(agent: &Agent) -> Session {
    let spawn = Spawn { session: ID, argv: vec!["echo".into()], ..Spawn::default() };
    agent.spawn(spawn).await.unwrap()
}

fn unbroken(guest: &Guest) -> Link {
    Link::new(guest, usize::MAX)
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at % 251) as u8).collect()
}

async fn write_all(mut stdin: Stdin, bytes: Vec<u8>) {
    for piece in bytes.chunks(7919) {
        stdin.write_all(piece).await.unwrap();
    }
    stdin.shutdown().await.unwrap();
}

async fn read_all(mut output: Output) -> Vec<u8> {
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn bytes_go_there_and_come_back_and_the_guest_may_forget() {
    let guest = Guest::default();
    let agent = Agent::new(unbroken(&guest));
    let (mut stdin, stdout, stderr, exit) = spawn(&agent).await.into_parts();
    stdin.write_all(b"hello\n").await.unwrap();
    stdin.shutdown().await.unwrap();
    assert_eq!(read_all(stdout).await, b"hello\n");
    assert_eq!(read_all(stderr).await, b"hello\n");
    assert_eq!(exit.await, Ok(EXIT));
    assert!(stdin.write_all(b"x").await.is_err(), "nothing reads after the end");
    tokio::time::timeout(DEADLINE, async {
        while !guest.state().done {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

/// Runs a session over links that break after a changing number of bytes.
async fn no_byte_is_lost_or_doubled(seed: usize) {
    let (guest, sent) = (Guest::default(), pattern(300_000));
    let mut link = unbroken(&guest);
    let agent = Agent::new(link.clone());
    let (stdin, stdout, stderr, exit) = spawn(&agent).await.into_parts();
    let work =
        async { tokio::join!(write_all(stdin, sent.clone()), read_all(stdout), read_all(stderr)) };
    tokio::pin!(work);
    let mut breaks = 0;
    link.hang_up();
    let ((), stdout, stderr) = loop {
        tokio::select! {
            done = &mut work => break done,
            () = link.broken() => {
                breaks += 1;
                link = Link::new(&guest, 1 + (seed + breaks * 7919 * 31) % 90_000);
                agent.relink(link.clone());
            }
        }
    };
    assert!(stdout == sent && stderr == sent);
    assert!(breaks > 5, "the link broke only {breaks} times");
    agent.relink(unbroken(&guest));
    assert_eq!(exit.await, Ok(EXIT));
}

#[tokio::test]
async fn no_byte_is_lost_or_doubled_over_many_hang_ups() {
    for seed in 0..10 {
        tokio::time::timeout(DEADLINE, no_byte_is_lost_or_doubled(seed * 997)).await.unwrap();
    }
}

#[tokio::test]
async fn a_writer_waits_when_the_process_does_not_read() {
    let guest = Guest::default();
    guest.state().stuck = true;
    let agent = Agent::new(unbroken(&guest));
    let (mut stdin, stdout, stderr, _exit) = spawn(&agent).await.into_parts();
    drop(stderr);
    let bytes = pattern(2 * WINDOW);
    let mut written = 0;
    while let Ok(count) =
        tokio::time::timeout(Duration::from_millis(100), stdin.write(&bytes[written..])).await
    {
        written += count.unwrap();
    }
    assert_eq!(written, WINDOW);
    guest.unstick();
    let (wrote, read) = tokio::join!(
        tokio::time::timeout(DEADLINE, write_all(stdin, bytes[written..].to_vec())),
        read_all(stdout)
    );
    wrote.unwrap();
    assert!(read == bytes);
}

#[tokio::test]
async fn a_reader_that_does_not_read_stops_the_process() {
    let guest = Guest::default();
    let agent = Agent::new(unbroken(&guest));
    let (stdin, mut stdout, _stderr, _exit) = spawn(&agent).await.into_parts();
    let writer = tokio::spawn(write_all(stdin, pattern(4 * WINDOW)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!writer.is_finished(), "a window in each direction is all there is room for");
    let mut read = vec![0; 4 * WINDOW];
    // The other output is not read either, and stops the process a window later.
    let more = tokio::time::timeout(Duration::from_millis(100), stdout.read_exact(&mut read)).await;
    assert!(more.is_err());
}

#[tokio::test]
async fn an_output_that_was_dropped_stops_nothing() {
    let guest = Guest::default();
    let agent = Agent::new(unbroken(&guest));
    let (stdin, stdout, stderr, exit) = spawn(&agent).await.into_parts();
    drop(stderr);
    let sent = pattern(4 * WINDOW);
    let ((), read) = tokio::join!(write_all(stdin, sent.clone()), read_all(stdout));
    assert!(read == sent);
    assert_eq!(exit.await, Ok(EXIT));
}

#[tokio::test]
async fn a_session_is_attached_again_by_its_id_alone() {
    let guest = Guest::default();
    let agent = Agent::new(unbroken(&guest));
    let (mut stdin, mut stdout, stderr, exit) = spawn(&agent).await.into_parts();
    stdin.write_all(b"one two").await.unwrap();
    stdout.read_exact(&mut [0; 7]).await.unwrap();
    // A killed daemon says no good-bye: its links just break.
    drop((stdin, stdout, stderr, exit));
    let resumed = Agent::new(unbroken(&guest)).attach(ID).await.unwrap();
    assert_eq!((resumed.stdin_received, resumed.stdin_at_line_start), (7, false));
    let (mut stdin, stdout, _stderr, exit) = resumed.session.into_parts();
    stdin.write_all(b" three").await.unwrap();
    stdin.shutdown().await.unwrap();
    let read = read_all(stdout).await;
    assert!(read.ends_with(b" three") && b"one two three".ends_with(&read[..]), "{read:?}");
    assert_eq!(exit.await, Ok(EXIT));
}

#[tokio::test]
async fn a_session_that_the_guest_forgot_is_lost_for_all_its_parts() {
    let guest = Guest::default();
    let link = unbroken(&guest);
    let agent = Agent::new(link.clone());
    let (mut stdin, mut stdout, _stderr, exit) = spawn(&agent).await.into_parts();
    guest.forget();
    link.hang_up();
    agent.relink(unbroken(&guest));
    let lost = tokio::time::timeout(DEADLINE, exit).await.unwrap().unwrap_err();
    assert_eq!(lost.to_string(), format!("session was lost: no session {ID} in the guest"));
    assert!(stdout.read(&mut [0; 8]).await.is_err());
    assert!(stdin.write(b"x").await.is_err());
}

#[tokio::test]
async fn a_guest_that_hangs_up_again_and_again_is_not_its_agent() {
    let guest = Guest::default();
    let agent = Agent::new(unbroken(&guest));
    let (_stdin, _stdout, _stderr, exit) = spawn(&agent).await.into_parts();
    let hang_up = async {
        loop {
            guest.hang_up();
            tokio::task::yield_now().await;
        }
    };
    let why = tokio::time::timeout(DEADLINE, async {
        tokio::select! {
            why = agent.distrusted() => why,
            () = hang_up => unreachable!("it does not end"),
        }
    });
    assert!(why.await.unwrap().contains("hangs up on it"));
    assert!(exit.await.is_err());
}

#[tokio::test]
async fn a_session_ends_when_its_vm_is_given_up() {
    let guest = Guest::default();
    let link = unbroken(&guest);
    let agent = Agent::new(link.clone());
    let (_stdin, _stdout, _stderr, exit) = spawn(&agent).await.into_parts();
    link.hang_up();
    agent.give_up();
    let lost = tokio::time::timeout(DEADLINE, exit).await.unwrap().unwrap_err();
    assert_eq!(lost.to_string(), "session was lost: reach the guest: its VM has ended");
}

#[tokio::test]
async fn a_dropped_session_is_left_alone() {
    let guest = Guest::default();
    let agent = Agent::new(unbroken(&guest));
    drop(spawn(&agent).await);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!guest.state().done, "the guest keeps it for whoever attaches next");
}
