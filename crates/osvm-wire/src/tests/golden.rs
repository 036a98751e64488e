//! The bytes of every message, frozen. A guest that lives on in a snapshot speaks them for as long as it lives:
//! if a line of `golden_bytes/v1.txt` has to change, the protocol needs a new version.

use crate::frame::{self, Decoder, Message};
use crate::grant::*;
use crate::link::{Generation, GuestHandshake, GuestStep, HostHandshake};
use crate::message::*;

const GOLDEN: &str = include_str!("golden_bytes/v1.txt");

/// Each message once, with a name.
fn frames() -> Vec<(String, Vec<u8>)> {
    let requests = requests().into_iter().map(|(name, message)| framed("request", name, &message));
    let replies = replies().into_iter().map(|(name, message)| framed("reply", name, &message));
    let refusals = refusals().into_iter().map(|(name, message)| framed("refused", name, &message));
    let events = events().into_iter().map(|(name, message)| framed("event", name, &message));
    let session =
        session_frames().into_iter().map(|(name, message)| framed("session", name, &message));
    let known = requests.chain(replies).chain(refusals).chain(events).chain(session);
    known.chain(handshake()).chain(grant_frames()).collect()
}

fn grant_frames() -> impl Iterator<Item = (String, Vec<u8>)> {
    let hosts = host_requests().into_iter().map(|(name, m)| framed("host_request", name, &m));
    let answers = host_answers().into_iter().map(|(name, m)| framed("host_answer", name, &m));
    let folders = open_folders().into_iter().map(|(name, m)| framed("folder", name, &m));
    let opened = folder_answers().into_iter().map(|(name, m)| framed("folder_answer", name, &m));
    hosts.chain(answers).chain(folders).chain(opened)
}

fn framed<M: Message>(family: &str, name: &str, message: &M) -> (String, Vec<u8>) {
    (format!("{family}.{name}"), frame::encode(message).unwrap())
}

fn id() -> SessionId {
    SessionId(std::array::from_fn(|index| index as u8))
}

fn exit() -> Exit {
    Exit { outcome: Outcome::Code(3), oom_killed: false }
}

fn requests() -> Vec<(&'static str, Request)> {
    let spawn = Spawn {
        session: id(),
        argv: vec!["node".into(), "server.js".into()],
        env: vec![("TOKEN".into(), "secret".into())],
        cwd: Some("/work".into()),
        user: Some("node:audio".into()),
        limits: Limits { open_files: Some(1024), processes: None },
    };
    let prepare = Prepare {
        unix_nanos: 1_700_000_000_123_456_789,
        entropy: vec![0xA5; Prepare::MIN_ENTROPY],
        hostname: "weather".into(),
    };
    let received = Some(Received { stdout: 300, stderr: 7 });
    vec![
        ("hello", Request::Hello),
        ("prepare", Request::Prepare(prepare.clone())),
        ("spawn", Request::Spawn(spawn.clone())),
        ("attach", Request::Attach(Attach { session: id(), received })),
        ("attach.unknowing", Request::Attach(Attach { session: id(), received: None })),
        ("sessions", Request::Sessions),
        ("close", Request::Close(id())),
        ("signal", Request::Signal { session: id(), signal: 15 }),
        ("stats", Request::Stats),
        ("watch", Request::Watch),
        ("power_off", Request::PowerOff),
        ("grant", Request::Grant(grants())),
        ("grant.files", Request::GrantWithFiles { grants: grants(), files: vec![0, 300] }),
        ("go_on", Request::GoOn(prepare)),
        ("rehearse", Request::Rehearse(spawn)),
    ]
}

fn grants() -> Grants {
    Grants {
        hosts: vec![HostGrant { host: "*.example.com".into(), ports: vec![443, 80] }],
        folders: vec![FolderGrant { at: "/work".into(), writable: true }],
        user: Some("node".into()),
        record: true,
    }
}

fn host_requests() -> Vec<(&'static str, HostRequest)> {
    let host = || "api.example.com".to_owned();
    vec![
        ("connect", HostRequest::Connect { host: host(), port: 443 }),
        ("refused", HostRequest::Refused { host: host(), port: None }),
        ("tried", HostRequest::Tried { paths: vec![tried()] }),
    ]
}

fn tried() -> TriedPath {
    TriedPath { path: "/home/me/a".into(), found: 1, written: true, named: false }
}

fn host_answers() -> Vec<(&'static str, HostAnswer)> {
    vec![
        ("connected", HostAnswer::Connected),
        ("refused", HostAnswer::Refused { why: "no route".into() }),
    ]
}

fn open_folders() -> Vec<(&'static str, OpenFolder)> {
    vec![("open", OpenFolder { folder: 1, uid: 1000, gid: 1001, seen: 300 })]
}

fn folder_answers() -> Vec<(&'static str, FolderAnswer)> {
    vec![
        ("opened", FolderAnswer::Opened { seen: 300 }),
        ("refused", FolderAnswer::Refused { why: "no folder 1".into() }),
    ]
}

fn replies() -> Vec<(&'static str, Reply)> {
    let hello = Hello { agent: "0.1.0".into(), kernel: "6.12.0".into(), boot_id: "b007".into() };
    let attached = Attached {
        pid: 81,
        stdin_received: 1000,
        stdin_taken: 900,
        stdin_at_line_start: true,
        stdin_ended: false,
        stdout: 300,
        stderr: 7,
    };
    let info = SessionInfo {
        session: id(),
        pid: 81,
        command: "node".into(),
        attached: true,
        age_millis: 5000,
        exit: Some(exit()),
    };
    let stats = Stats {
        memory_total: 1 << 28,
        memory_available: 1 << 27,
        memory_used: 1 << 26,
        uptime_millis: 12_345,
        cpu_millis: 678,
        load_percent: 57,
        processes: 4,
        oom_kills: 1,
        sessions: 2,
    };
    vec![
        ("hello", Reply::Hello(hello)),
        ("prepared", Reply::Prepared),
        ("spawned", Reply::Spawned { pid: 81 }),
        ("attached", Reply::Attached(attached)),
        ("sessions", Reply::Sessions(vec![info])),
        ("closed", Reply::Closed),
        ("signalled", Reply::Signalled),
        ("stats", Reply::Stats(stats)),
        ("watching", Reply::Watching),
        ("powering_off", Reply::PoweringOff),
        ("granted", Reply::Granted),
    ]
}

fn refusals() -> Vec<(&'static str, Reply)> {
    let text = String::from;
    let (path, why) = (text("/bin/a"), text("its mode is 0644"));
    let refusals = vec![
        (
            "command_not_found",
            Refusal::CommandNotFound { command: text("a"), searched: text("/b") },
        ),
        ("file_not_found", Refusal::FileNotFound { path: path.clone() }),
        ("not_executable", Refusal::NotExecutable { path: path.clone(), why: why.clone() }),
        (
            "interpreter",
            Refusal::InterpreterNotFound { path: path.clone(), interpreter: text("/c") },
        ),
        ("working_directory", Refusal::WorkingDirectory { path, why: why.clone() }),
        ("no_such_user", Refusal::NoSuchUser { user: text("u") }),
        ("no_such_group", Refusal::NoSuchGroup { group: text("g") }),
        ("no_such_session", Refusal::NoSuchSession(id())),
        ("session_exists", Refusal::SessionExists(id())),
        ("too_many_sessions", Refusal::TooManySessions { limit: 32 }),
        ("bytes_lost", Refusal::BytesLost(id())),
        ("invalid", Refusal::Invalid { why: why.clone() }),
        ("failed", Refusal::Failed { act: text("fork"), why }),
    ];
    refusals.into_iter().map(|(name, refusal)| (name, Reply::Refused(refusal))).collect()
}

fn events() -> Vec<(&'static str, Event)> {
    let exit = Exit { outcome: Outcome::Signal(9), oom_killed: true };
    vec![
        ("started", Event::Started { session: id(), pid: 81 }),
        ("exited", Event::Exited { session: id(), exit }),
        ("expired", Event::Expired { session: id() }),
    ]
}

fn session_frames() -> Vec<(&'static str, SessionFrame)> {
    let data = |channel| SessionFrame::Data { channel, offset: 300, bytes: b"line\n".to_vec() };
    vec![
        ("data.stdin", data(Channel::Stdin)),
        ("data.stdout", data(Channel::Stdout)),
        ("data.stderr", data(Channel::Stderr)),
        ("ack", SessionFrame::Ack { channel: Channel::Stdout, offset: 305 }),
        ("end", SessionFrame::End { channel: Channel::Stdin, offset: 305 }),
        ("exit", SessionFrame::Exit(exit())),
        ("done", SessionFrame::Done),
        ("replaced", SessionFrame::Replaced),
    ]
}

fn handshake() -> Vec<(String, Vec<u8>)> {
    let mut host = HostHandshake::new(Generation([0x11; 16]));
    let mut guest = GuestHandshake::default();
    guest.push(&host.hello());
    let GuestStep::Answer(ack) = guest.step(Generation([0x22; 16])) else { panic!("no answer") };
    let opened = host.receive(&ack).unwrap().unwrap();
    vec![
        ("link.hello".into(), host.hello().to_vec()),
        ("link.ack".into(), ack.to_vec()),
        ("link.go".into(), opened.send.to_vec()),
        ("link.port".into(), crate::link::port_header(crate::AGENT_PORT).to_vec()),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_message_has_its_golden_bytes() {
    let lines: Vec<_> =
        frames().iter().map(|(name, bytes)| format!("{name} {}", hex(bytes))).collect();
    let golden: Vec<_> = GOLDEN.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(lines, golden, "this is now: \n{}\n", lines.join("\n"));
}

#[test]
fn golden_bytes_are_understood() {
    fn read_back<M: Message + PartialEq + std::fmt::Debug>(messages: Vec<(&str, M)>) {
        for (name, message) in messages {
            let mut decoder = Decoder::default();
            decoder.push(&frame::encode(&message).unwrap());
            assert_eq!(decoder.decode(), Ok(Some(message)), "{name}");
            assert_eq!(decoder.finish(), Ok(()), "{name}");
        }
    }
    read_back(requests());
    read_back(replies());
    read_back(refusals());
    read_back(events());
    read_back(session_frames());
    read_back(host_requests());
    read_back(host_answers());
    read_back(open_folders());
    read_back(folder_answers());
}

/// Fails to compile when a message is added, as a reminder that it needs golden bytes too.
#[test]
fn no_message_was_forgotten() {
    let request = |message: &Request| match message {
        Request::Hello | Request::Prepare(_) | Request::Spawn(_) | Request::Attach(_) => {}
        Request::Sessions | Request::Close(_) | Request::Signal { .. } | Request::Stats => {}
        Request::Watch | Request::PowerOff | Request::Grant(_) => {}
        Request::GrantWithFiles { .. } | Request::GoOn(_) | Request::Rehearse(_) => {}
    };
    let reply = |message: &Reply| match message {
        Reply::Refused(refusal) => match refusal {
            Refusal::CommandNotFound { .. } | Refusal::FileNotFound { .. } => {}
            Refusal::NotExecutable { .. } | Refusal::InterpreterNotFound { .. } => {}
            Refusal::WorkingDirectory { .. } | Refusal::NoSuchUser { .. } => {}
            Refusal::NoSuchGroup { .. } | Refusal::NoSuchSession(_) => {}
            Refusal::SessionExists(_) | Refusal::TooManySessions { .. } => {}
            Refusal::BytesLost(_) | Refusal::Invalid { .. } | Refusal::Failed { .. } => {}
        },
        Reply::Hello(_) | Reply::Prepared | Reply::Spawned { .. } | Reply::Attached(_) => {}
        Reply::Sessions(_) | Reply::Closed | Reply::Signalled | Reply::Stats(_) => {}
        Reply::Watching | Reply::PoweringOff | Reply::Granted => {}
    };
    let event = |message: &Event| match message {
        Event::Started { .. } | Event::Exited { .. } | Event::Expired { .. } => {}
    };
    let frame = |message: &SessionFrame| match message {
        SessionFrame::Data { .. } | SessionFrame::Ack { .. } | SessionFrame::End { .. } => {}
        SessionFrame::Exit(_) | SessionFrame::Done | SessionFrame::Replaced => {}
    };
    let host_request = |message: &HostRequest| match message {
        HostRequest::Connect { .. } | HostRequest::Refused { .. } => {}
        HostRequest::Tried { .. } => {}
    };
    let host_answer = |message: &HostAnswer| match message {
        HostAnswer::Connected | HostAnswer::Refused { .. } => {}
    };
    let folder_answer = |message: &FolderAnswer| match message {
        FolderAnswer::Opened { .. } | FolderAnswer::Refused { .. } => {}
    };
    host_requests().iter().for_each(|(_, message)| host_request(message));
    host_answers().iter().for_each(|(_, message)| host_answer(message));
    folder_answers().iter().for_each(|(_, message)| folder_answer(message));
    requests().iter().for_each(|(_, message)| request(message));
    replies().iter().chain(&refusals()).for_each(|(_, message)| reply(message));
    events().iter().for_each(|(_, message)| event(message));
    session_frames().iter().for_each(|(_, message)| frame(message));
}
