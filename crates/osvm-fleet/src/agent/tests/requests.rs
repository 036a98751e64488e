//! One question, one answer.

use std::io;

use futures::future::BoxFuture;
use osvm_wire::message::*;

use super::guest::{Guest, Link};
use crate::agent::{Agent, AgentError, AgentStream, Dial};

fn agent(guest: &Guest) -> Agent {
    Agent::new(Link::new(guest, usize::MAX))
}

#[tokio::test]
async fn every_question_reaches_the_guest_and_its_answer_comes_back() {
    let guest = Guest::default();
    let agent = agent(&guest);
    let session = SessionId([1; 16]);
    let prepare = Prepare { unix_nanos: 1, entropy: vec![2; 32], hostname: "h".into() };
    assert_eq!(agent.hello().await.unwrap().kernel, "6");
    agent.prepare(prepare.clone()).await.unwrap();
    assert_eq!(agent.stats().await.unwrap().processes, 3);
    assert_eq!(agent.sessions().await.unwrap(), []);
    agent.signal(session, 15).await.unwrap();
    agent.close(session).await.unwrap();
    agent.power_off().await.unwrap();
    let asked = [
        Request::Hello,
        Request::Prepare(prepare),
        Request::Stats,
        Request::Sessions,
        Request::Signal { session, signal: 15 },
        Request::Close(session),
        Request::PowerOff,
    ];
    assert_eq!(guest.state().requests, asked);
}

#[tokio::test]
async fn a_refusal_is_the_guests_own_words() {
    let guest = Guest::default();
    let spawn = Spawn { argv: vec!["missing".into()], ..Spawn::default() };
    let Err(error) = agent(&guest).spawn(spawn).await else { panic!("not refused") };
    assert!(matches!(error, AgentError::Refused(Refusal::CommandNotFound { .. })), "{error}");
    assert_eq!(error.to_string(), "command missing was not found on the image's PATH /bin");
}

#[tokio::test]
async fn events_come_until_the_link_hangs_up() {
    let guest = Guest::default();
    let mut events = agent(&guest).watch().await.unwrap();
    let event = Event::Expired { session: SessionId([5; 16]) };
    assert_eq!(events.next().await.unwrap(), Some(event));
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_broken_link_is_told_from_a_refusal() {
    let agent = Agent::new(Link::new(&Guest::default(), 5));
    assert!(agent.hello().await.unwrap_err().is_hang_up());
    assert!(agent.hello().await.unwrap_err().is_hang_up());
}

/// A link that has as many streams as it takes.
struct FullLink;

impl Dial for FullLink {
    fn dial(&self, _port: u32) -> BoxFuture<'_, io::Result<Box<dyn AgentStream>>> {
        Box::pin(async { Err(io::ErrorKind::ResourceBusy.into()) })
    }
}

#[tokio::test]
async fn a_full_link_is_not_taken_for_a_broken_one() {
    let spawned = Agent::new(FullLink).spawn(Spawn::default()).await;
    assert!(matches!(spawned, Err(AgentError::Full(_))));
}

#[tokio::test]
async fn nothing_is_asked_of_a_vm_that_is_gone() {
    let agent = agent(&Guest::default());
    agent.give_up();
    assert!(matches!(agent.hello().await, Err(AgentError::Gone)));
}

#[tokio::test]
async fn a_session_is_spawned_once_however_often_the_link_breaks_on_the_way() {
    for bytes in 1..200 {
        let guest = Guest::default();
        let first = Link::new(&guest, bytes);
        let agent = Agent::new(first.clone());
        let spawn = Spawn { argv: vec!["echo".into()], ..Spawn::default() };
        let relink = async {
            first.broken().await;
            agent.relink(Link::new(&guest, usize::MAX));
            std::future::pending::<()>().await;
        };
        let spawned = tokio::select! {
            spawned = agent.spawn(spawn) => spawned,
            () = relink => unreachable!("it has no end"),
        };
        assert!(spawned.is_ok(), "with a break after {bytes} bytes");
    }
}
