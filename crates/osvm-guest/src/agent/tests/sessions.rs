//! What becomes of a process and its bytes.

use std::sync::Arc;
use std::time::Duration;

use osvm_wire::message::*;
use osvm_wire::session::WINDOW;

use super::host::*;
use crate::agent::{Agent, Settings};
use crate::talk::Talk;

/// Starts a shell and waits for its first line.
async fn start(agent: &Arc<Agent>, number: u8, script: &str) -> (Client, Talk<Cut>) {
    let (reply, mut talk) = open(agent, Request::Spawn(shell(number, script))).await;
    assert!(matches!(reply, Reply::Spawned { .. }), "{reply:?}");
    let mut client = Client::default();
    client.carry(&mut talk, |client| client.stdout.bytes.contains(&b'\n')).await.unwrap();
    (client, talk)
}

async fn sessions(agent: &Arc<Agent>) -> Vec<SessionInfo> {
    match ask(agent, Request::Sessions).await {
        Reply::Sessions(sessions) => sessions,
        other => panic!("not sessions but {other:?}"),
    }
}

async fn forgets(agent: &Arc<Agent>) {
    eventually("an empty table", || async { sessions(agent).await.is_empty() }).await;
}

#[tokio::test]
async fn a_process_gets_its_input_and_gives_its_output_and_exit() {
    let agent = agent();
    let client = Client::run(&agent, shell(1, "cat; echo oops >&2; exit 7"), b"hello\n").await;
    assert_eq!((client.stdout.text(), client.stderr.text()), ("hello\n".into(), "oops\n".into()));
    assert_eq!(client.code(), Some(Outcome::Code(7)));
    forgets(&agent).await;
}

#[tokio::test]
async fn what_a_process_says_before_anybody_listens_is_for_whoever_attaches() {
    let agent = agent();
    let waits = shell(1, "echo early; echo log >&2; read line; echo $line");
    assert!(matches!(ask(&agent, Request::Spawn(waits)).await, Reply::Spawned { .. }));
    let attach = Attach { session: id(1), received: None };
    let (reply, mut talk) = open(&agent, Request::Attach(attach)).await;
    let Reply::Attached(attached) = reply else { panic!("unexpected {reply:?}") };
    assert_eq!((attached.stdin_received, attached.stdout, attached.stderr), (0, 0, 0));
    let mut client = Client::new(b"late\n");
    client.carry(&mut talk, Client::is_over).await.unwrap();
    assert_eq!(client.stdout.text(), "early\nlate\n");
    assert_eq!(client.stderr.text(), "log\n");
}

#[tokio::test]
async fn a_process_sees_its_own_environment_folder_and_nothing_of_the_agents() {
    let agent = agent();
    let spawn = Spawn {
        env: vec![("GREETING".into(), "hi".into()), ("HOME".into(), "/home/me".into())],
        cwd: Some("/tmp".into()),
        ..shell(1, "pwd; exec env")
    };
    let text = Client::run(&agent, spawn, b"").await.stdout.text();
    let mut lines: Vec<_> = text.lines().filter(|line| !line.starts_with("PWD=")).collect();
    lines.retain(|line| !line.starts_with("SHLVL=") && !line.starts_with("_="));
    lines.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["/tmp", "GREETING=hi", "HOME=/home/me", path]);
}

#[tokio::test]
async fn a_process_leads_a_session_without_new_privileges_or_core_dumps() {
    let agent = agent();
    let script = "cat /proc/self/stat; grep NoNewPrivs /proc/self/status; ulimit -c; exec readlink /proc/self/fd/9";
    let client = Client::run(&agent, shell(1, script), b"").await;
    let text = client.stdout.text();
    let stat: Vec<_> = text.lines().next().unwrap().split(' ').collect();
    assert_eq!(stat[4], stat[5], "process group and session are the shell's own: {text}");
    assert!(text.contains("NoNewPrivs:\t1\n0\n"), "{text}");
    assert_eq!(client.code(), Some(Outcome::Code(1)), "no descriptor of the agent's is open");
}

#[tokio::test]
async fn a_signal_that_kills_is_reported_as_one() {
    let agent = agent();
    let client = Client::run(&agent, shell(1, "kill -9 $$"), b"").await;
    assert_eq!(client.code(), Some(Outcome::Signal(9)));
}

#[tokio::test]
async fn a_signal_reaches_the_process_group() {
    let agent = agent();
    let (mut client, mut talk) = start(&agent, 1, "echo ready; sleep 1000").await;
    let signal = |signal| Request::Signal { session: id(1), signal };
    assert_eq!(ask(&agent, signal(15)).await, Reply::Signalled);
    client.carry(&mut talk, Client::is_over).await.unwrap();
    assert_eq!(client.code(), Some(Outcome::Signal(15)));
    forgets(&agent).await;
}

#[tokio::test]
async fn an_impossible_signal_is_refused() {
    let agent = agent();
    let (_client, _talk) = start(&agent, 1, "echo ready; cat").await;
    for signal in [0, -1, 4096] {
        let refusal = refusal(&agent, Request::Signal { session: id(1), signal }).await;
        assert_eq!(refusal, Refusal::Invalid { why: format!("there is no signal {signal}") });
    }
    assert_eq!(ask(&agent, Request::Close(id(1))).await, Reply::Closed);
}

#[tokio::test]
async fn closing_kills_the_process_and_its_stubborn_descendants() {
    let agent = agent();
    let script = "trap '' TERM; sleep 1000 & echo $!; echo $$; wait";
    let (mut client, mut talk) = start(&agent, 1, script).await;
    client.carry(&mut talk, |client| client.stdout.text().lines().count() == 2).await.unwrap();
    assert_eq!(ask(&agent, Request::Close(id(1))).await, Reply::Closed);
    assert!(sessions(&agent).await.is_empty());
    for pid in client.stdout.text().lines() {
        eventually("a process's end", || async { !runs(pid) }).await;
    }
    client.carry(&mut talk, |client| client.exit.is_some()).await.unwrap();
    assert_eq!(client.code(), Some(Outcome::Signal(9)), "the attached host learns of it");
}

#[tokio::test]
async fn what_a_process_leaves_behind_ends_with_it() {
    let agent = agent();
    let script = "sleep 1000 & echo $!; setsid sleep 2 & exit 4";
    let client = Client::run(&agent, shell(1, script), b"").await;
    assert_eq!(client.code(), Some(Outcome::Code(4)));
    let pid = client.stdout.text();
    eventually("the descendant's end", || async { !runs(&pid) }).await;
}

#[tokio::test]
async fn a_flood_stops_at_the_window_and_nothing_else_does() {
    let agent = agent();
    let (mut client, mut talk) = start(&agent, 1, "yes flood >&2 & echo ready; exec cat").await;
    client.stderr.ignored = true;
    let before = client.stderr.bytes.len();
    client.carry(&mut talk, |client| client.stderr.bytes.len() >= before + WINDOW).await.unwrap();
    client.input.extend(b"still here\n");
    client.carry(&mut talk, |client| client.stdout.text().ends_with("still here\n")).await.unwrap();
    assert!(client.stderr.bytes.len() <= before + WINDOW, "nothing came beyond the window");
    assert_eq!(ask(&agent, Request::Close(id(1))).await, Reply::Closed);
}

#[tokio::test]
async fn input_that_nobody_reads_is_not_acknowledged_beyond_the_pipe() {
    let agent = agent();
    let (mut client, mut talk) =
        start(&agent, 1, "echo ready; read line; exec cat >/dev/null").await;
    client.input = vec![b'x'; 2 * WINDOW].into();
    client.input.push_back(b'\n');
    // What fits the pipe is taken, the rest waits in a window.
    let wait = client.carry(&mut talk, |client| client.stdin.acked() > 0);
    tokio::time::timeout(DEADLINE, wait).await.unwrap().unwrap();
    assert!(client.input.len() >= WINDOW / 2, "{} bytes left to push", client.input.len());
    client.ends = true;
    client.carry(&mut talk, Client::is_over).await.unwrap();
    assert_eq!(client.code(), Some(Outcome::Code(0)));
}

#[tokio::test]
async fn input_after_the_process_closed_its_stdin_is_thrown_away() {
    let agent = agent();
    let script = "exec <&-; echo closed; while [ ! -e /proc/self/fd/0 ]; do exec sleep 0.2; done";
    let (mut client, mut talk) = start(&agent, 1, script).await;
    client.input = vec![b'x'; 4 * WINDOW].into();
    client.ends = true;
    client.carry(&mut talk, Client::is_over).await.unwrap();
    assert_eq!(client.code(), Some(Outcome::Code(0)));
}

#[tokio::test]
async fn the_second_stream_to_attach_replaces_the_first() {
    let agent = agent();
    let (_client, mut first) = start(&agent, 1, "echo ready; cat").await;
    let attach = Attach { session: id(1), received: None };
    let (reply, _second) = open(&agent, Request::Attach(attach)).await;
    assert!(matches!(reply, Reply::Attached(_)), "{reply:?}");
    let mut last = None;
    while let Some(frame) = first.incoming.receive::<SessionFrame>().await.unwrap() {
        last = Some(frame);
    }
    assert_eq!(last, Some(SessionFrame::Replaced));
    assert!(sessions(&agent).await[0].attached);
    assert_eq!(ask(&agent, Request::Close(id(1))).await, Reply::Closed);
}

#[tokio::test]
async fn a_host_that_lost_its_memory_is_told_where_the_session_stands() {
    let agent = agent();
    let (mut client, mut talk) = start(&agent, 1, "echo ready; cat").await;
    client.input.extend(b"one\ntwo");
    client.carry(&mut talk, |client| client.stdin.acked() == 7).await.unwrap();
    drop(talk);
    let attach = Attach { session: id(1), received: None };
    let (reply, mut talk) = open(&agent, Request::Attach(attach)).await;
    let Reply::Attached(attached) = reply else { panic!("{reply:?}") };
    assert_eq!((attached.stdin_received, attached.stdin_taken), (7, 7));
    assert!(!attached.stdin_at_line_start && !attached.stdin_ended, "{attached:?}");
    // The echo was received by the host that is gone, perhaps without an acknowledgement.
    assert!(attached.stdout >= 6 && attached.stdout <= 13, "{attached:?}");
    let mut next = Client::new(b"\n");
    next.stdin = osvm_wire::session::Outgoing::resumed(7, 7);
    next.stdout.count = osvm_wire::session::Incoming::resumed(attached.stdout);
    next.carry(&mut talk, Client::is_over).await.unwrap();
    assert_eq!(next.stdout.text(), "ready\none\ntwo\n"[attached.stdout as usize..]);
}

#[tokio::test]
async fn a_host_that_claims_less_than_it_acknowledged_is_refused() {
    let agent = agent();
    let (mut client, mut talk) = start(&agent, 1, "echo ready; cat").await;
    client.input.extend(b"x");
    client.carry(&mut talk, |client| client.stdout.bytes.len() == 7).await.unwrap();
    let received = Some(Received { stdout: 0, stderr: 0 });
    let attach = Request::Attach(Attach { session: id(1), received });
    assert_eq!(refusal(&agent, attach).await, Refusal::BytesLost(id(1)));
    assert_eq!(ask(&agent, Request::Close(id(1))).await, Reply::Closed);
}

#[tokio::test]
async fn an_exit_waits_for_a_host_to_hear_of_it() {
    let agent = agent();
    let (_client, talk) = start(&agent, 1, "echo ready; read line; exit 5").await;
    drop(talk);
    assert_eq!(ask(&agent, Request::Signal { session: id(1), signal: 9 }).await, Reply::Signalled);
    eventually("an exit", || async { sessions(&agent).await[0].exit.is_some() }).await;
    let attach = Attach { session: id(1), received: Some(Received { stdout: 6, stderr: 0 }) };
    let (_, mut talk) = open(&agent, Request::Attach(attach)).await;
    let mut client = Client::default();
    client.stdout.count = osvm_wire::session::Incoming::resumed(6);
    client.carry(&mut talk, Client::is_over).await.unwrap();
    assert_eq!(client.code(), Some(Outcome::Signal(9)));
    forgets(&agent).await;
}

#[tokio::test]
async fn a_session_that_nobody_attaches_expires() {
    let settings = Settings { expire_after: Duration::from_millis(50), ..settings() };
    let agent = Agent::start(settings, Dummy::default()).unwrap();
    let (_, mut watch) = open(&agent, Request::Watch).await;
    let (client, talk) = start(&agent, 1, "echo $$; exec sleep 1000").await;
    drop(talk);
    forgets(&agent).await;
    let pid = client.stdout.text();
    eventually("the process's end", || async { !runs(&pid) }).await;
    let mut events = Vec::new();
    while !matches!(events.last(), Some(Event::Expired { .. })) {
        events.push(watch.incoming.receive().await.unwrap().expect("an event"));
    }
}

#[tokio::test]
async fn a_session_that_is_attached_again_does_not_expire() {
    let settings = Settings { expire_after: Duration::from_millis(50), ..settings() };
    let agent = Agent::start(settings, Dummy::default()).unwrap();
    let (_client, talk) = start(&agent, 1, "echo ready; cat").await;
    drop(talk);
    let attach = Attach { session: id(1), received: None };
    let (reply, _talk) = open(&agent, Request::Attach(attach)).await;
    assert!(matches!(reply, Reply::Attached(_)), "{reply:?}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(sessions(&agent).await[0].attached);
    assert_eq!(ask(&agent, Request::Close(id(1))).await, Reply::Closed);
}
