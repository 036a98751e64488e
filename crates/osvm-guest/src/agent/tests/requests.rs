//! One question, one answer.

use std::sync::atomic::Ordering;

use osvm_wire::VERSION;
use osvm_wire::frame::{self, FrameError};
use osvm_wire::grant::Grants;
use osvm_wire::message::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::host::*;
use crate::agent::{Agent, MAX_SESSIONS};

#[tokio::test]
async fn an_agent_says_who_it_is_and_what_the_machine_uses() {
    let agent = agent();
    let Reply::Hello(hello) = ask(&agent, Request::Hello).await else { panic!("no hello") };
    assert_eq!(hello.agent, env!("CARGO_PKG_VERSION"));
    assert!(!hello.kernel.is_empty() && hello.boot_id.len() == 36, "{hello:?}");
    let Reply::Stats(stats) = ask(&agent, Request::Stats).await else { panic!("no stats") };
    assert!(stats.memory_total > 0 && stats.sessions == 0, "{stats:?}");
    assert_eq!(ask(&agent, Request::Sessions).await, Reply::Sessions(vec![]));
}

#[tokio::test]
async fn a_machine_is_prepared_only_with_enough_entropy() {
    let machine = Dummy::default();
    let agent = Agent::start(settings(), machine.clone()).unwrap();
    let prepare = |bytes| {
        Request::Prepare(Prepare { unix_nanos: 1, entropy: vec![1; bytes], hostname: "a".into() })
    };
    let refusal = refusal(&agent, prepare(31)).await;
    assert_eq!(refusal.to_string(), "request makes no sense: it has fewer than 32 random bytes");
    assert!(!machine.prepared.load(Ordering::SeqCst));
    assert_eq!(ask(&agent, prepare(32)).await, Reply::Prepared);
    assert!(machine.prepared.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_machine_that_goes_on_keeps_its_id() {
    let machine = Dummy::default();
    let agent = Agent::start(settings(), machine.clone()).unwrap();
    assert_eq!(ask(&agent, Request::Prepare(of_a_clone())).await, Reply::Prepared);
    assert_eq!(ask(&agent, Request::GoOn(of_a_clone())).await, Reply::Prepared);
    assert_eq!(machine.renewed.load(Ordering::SeqCst), 1);
}

fn of_a_clone() -> Prepare {
    Prepare { unix_nanos: 1, entropy: vec![1; 32], hostname: "a".into() }
}

#[tokio::test]
async fn a_machine_in_which_a_server_has_waited_has_a_boot_id_of_its_own() {
    let machine = Dummy::default();
    let agent = Agent::start(settings(), machine.clone()).unwrap();
    let boots = || machine.boots.load(Ordering::SeqCst);
    assert_eq!(ask(&agent, Request::Prepare(of_a_clone())).await, Reply::Prepared);
    assert_eq!(boots(), 0, "the kernel's own is still to be made up");
    let (_, _open) = open(&agent, Request::Spawn(shell(1, "cat"))).await;
    assert_eq!(ask(&agent, Request::Prepare(of_a_clone())).await, Reply::Prepared);
    assert_eq!(ask(&agent, Request::GoOn(of_a_clone())).await, Reply::Prepared);
    assert_eq!(boots(), 1);
    assert_eq!(ask(&agent, Request::Close(id(1))).await, Reply::Closed);
    assert_eq!(ask(&agent, Request::Prepare(of_a_clone())).await, Reply::Prepared);
    assert_eq!(boots(), 1, "nothing waits");
}

#[tokio::test]
async fn a_machine_that_would_share_its_boot_id_is_not_prepared() {
    let machine = Dummy { keeps_its_boot_id: true, ..Dummy::default() };
    let agent = Agent::start(settings(), machine).unwrap();
    let (_, _open) = open(&agent, Request::Spawn(shell(1, "cat"))).await;
    let refusal = refusal(&agent, Request::Prepare(of_a_clone())).await.to_string();
    assert!(refusal.contains("it can't"), "{refusal}");
}

#[tokio::test]
async fn a_command_that_is_not_there_is_refused_with_the_path_searched() {
    let agent = agent();
    let env = vec![("PATH".to_owned(), "/nowhere:/else".to_owned())];
    let argv = vec!["cargo".to_owned(), "run".to_owned()];
    let spawn = Spawn { session: id(1), argv, env, ..Spawn::default() };
    let expected =
        Refusal::CommandNotFound { command: "cargo".into(), searched: "/nowhere:/else".into() };
    assert_eq!(refusal(&agent, Request::Spawn(spawn)).await, expected);
}

#[tokio::test]
async fn impossible_spawns_are_refused_and_leave_no_session() {
    let agent = agent();
    let argv = |argv: &[&str]| Spawn {
        session: id(1),
        argv: argv.iter().map(|argument| (*argument).to_owned()).collect(),
        ..Spawn::default()
    };
    let name = |name: &str| vec![(name.to_owned(), String::new())];
    let missing = "/no/such/folder".to_owned();
    let spawns = [
        (argv(&[]), "request makes no sense: the command is empty"),
        (argv(&[""]), "request makes no sense: the command is empty"),
        (argv(&["a\0b"]), "request makes no sense: an argument contains a zero byte"),
        (
            Spawn { env: name("A=B"), ..argv(&["sh"]) },
            "request makes no sense: an environment variable has an impossible name or a zero byte",
        ),
        (
            Spawn { cwd: Some(missing), ..argv(&["sh"]) },
            "working directory /no/such/folder can't be entered: No such file or directory (os error 2)",
        ),
        (argv(&["/etc"]), "/etc can't be executed: it is a folder"),
        (argv(&["/no/such/file"]), "/no/such/file does not exist in the image"),
    ];
    for (spawn, expected) in spawns {
        assert_eq!(refusal(&agent, Request::Spawn(spawn)).await.to_string(), expected);
    }
    assert_eq!(ask(&agent, Request::Sessions).await, Reply::Sessions(vec![]));
}

#[tokio::test]
async fn nobody_rehearses_whose_processes_could_not_all_be_ended() {
    let agent = agent();
    let spawn = shell(1, "true");
    let refusal = refusal(&agent, Request::Rehearse(spawn)).await.to_string();
    assert!(refusal.contains("without control groups"), "{refusal}");
    assert_eq!(ask(&agent, Request::Sessions).await, Reply::Sessions(vec![]));
}

#[tokio::test]
async fn grants_are_told_once_and_may_be_repeated() {
    let agent = agent();
    for _ in 0..2 {
        assert_eq!(ask(&agent, Request::Grant(Grants::default())).await, Reply::Granted);
    }
    let other = Grants { user: Some("node".into()), ..Grants::default() };
    let refusal = refusal(&agent, Request::Grant(other)).await;
    let expected = "request makes no sense: other grants were told before";
    assert_eq!(refusal.to_string(), expected);
}

#[tokio::test]
async fn what_is_asked_of_an_unknown_session_is_refused() {
    let agent = agent();
    let attach = Attach { session: id(9), received: None };
    let requests = [
        Request::Attach(attach),
        Request::Close(id(9)),
        Request::Signal { session: id(9), signal: 15 },
    ];
    for request in requests {
        assert_eq!(refusal(&agent, request).await, Refusal::NoSuchSession(id(9)));
    }
}

#[tokio::test]
async fn a_session_id_is_used_once() {
    let agent = agent();
    let (_, _open) = open(&agent, Request::Spawn(shell(1, "cat"))).await;
    let again = Request::Spawn(shell(1, "cat"));
    assert_eq!(refusal(&agent, again).await, Refusal::SessionExists(id(1)));
}

#[tokio::test]
async fn the_number_of_sessions_is_bounded() {
    let agent = agent();
    let mut streams = Vec::new();
    for number in 0..MAX_SESSIONS as u8 {
        streams.push(open(&agent, Request::Spawn(shell(number, "cat"))).await);
    }
    let one_more = Request::Spawn(shell(MAX_SESSIONS as u8, "cat"));
    let limit = MAX_SESSIONS as u32;
    assert_eq!(refusal(&agent, one_more).await, Refusal::TooManySessions { limit });
    for number in 0..MAX_SESSIONS as u8 {
        assert_eq!(ask(&agent, Request::Close(id(number))).await, Reply::Closed);
    }
}

#[tokio::test]
async fn a_host_of_another_version_is_answered_in_ours() {
    let agent = agent();
    let (mut ours, theirs) = tokio::io::duplex(1024);
    tokio::spawn(agent.serve(theirs));
    let mut request = frame::encode(&Request::Hello).unwrap();
    request[0] = VERSION + 1;
    ours.write_all(&request).await.unwrap();
    let mut answer = Vec::new();
    ours.read_to_end(&mut answer).await.unwrap();
    let error = FrameError::Version { ours: VERSION, theirs: VERSION + 1 };
    let mut decoder = frame::Decoder::default();
    decoder.push(&answer);
    let Ok(Some(Reply::Refused(refusal))) = decoder.decode() else { panic!("no refusal") };
    assert!(refusal.to_string().ends_with(&error.to_string()), "{refusal}");
}

#[tokio::test]
async fn noise_is_dropped_and_the_agent_lives_on() {
    let agent = agent();
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[VERSION; 64], &[]] {
        let (mut ours, theirs) = tokio::io::duplex(1024);
        let served = tokio::spawn(std::sync::Arc::clone(&agent).serve(theirs));
        ours.write_all(noise).await.unwrap();
        ours.shutdown().await.unwrap();
        ours.read_to_end(&mut Vec::new()).await.unwrap();
        tokio::time::timeout(DEADLINE, served).await.unwrap().unwrap();
    }
    assert!(matches!(ask(&agent, Request::Hello).await, Reply::Hello(_)));
}

#[tokio::test]
async fn a_watcher_is_told_of_starts_and_exits() {
    let agent = agent();
    let (reply, mut watch) = open(&agent, Request::Watch).await;
    assert_eq!(reply, Reply::Watching);
    Client::run(&agent, shell(1, "exit 3"), b"").await;
    let started = watch.incoming.receive().await.unwrap();
    assert!(matches!(started, Some(Event::Started { session, .. }) if session == id(1)));
    let exit = Exit { outcome: Outcome::Code(3), oom_killed: false };
    let exited = watch.incoming.receive().await.unwrap();
    assert_eq!(exited, Some(Event::Exited { session: id(1), exit }));
}

#[tokio::test]
async fn a_power_off_is_answered_then_ends_processes_and_machine() {
    let machine = Dummy::default();
    let agent = Agent::start(settings(), machine.clone()).unwrap();
    let stubborn = "trap '' TERM; echo $$; while :; do sleep 1; done";
    let (_, mut talk) = open(&agent, Request::Spawn(shell(1, stubborn))).await;
    let mut client = Client::default();
    client.carry(&mut talk, |client| client.stdout.bytes.ends_with(b"\n")).await.unwrap();
    assert_eq!(ask(&agent, Request::PowerOff).await, Reply::PoweringOff);
    eventually("power off", || async { machine.off.load(Ordering::SeqCst) }).await;
    eventually("the process's end", || async { !runs(&client.stdout.text()) }).await;
}
