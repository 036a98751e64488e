//! The network of a test: its name server, the relay process, and its log.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};
use osvm_spec::Hosts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::super::{Relay, control};
use super::{FOLDER, IDLE, INSIDE, PROXY};

/// Longest that anything may take that must happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// Of the test's name server.
const MOST_IN_A_PACKET: usize = 8;

/// Names and their addresses.
pub(super) type Zone = &'static [(&'static str, &'static [&'static str])];

pub(super) struct Net {
    pub(super) relay: Relay,
    pub(super) folder: tempfile::TempDir,
    pub(super) log: File,
    process: Child,
}

pub(super) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("it happens before the deadline")
}

impl Net {
    pub(super) async fn new(zone: Zone) -> Self {
        Self::with(zone, "", Duration::from_secs(600)).await
    }

    pub(super) async fn with(zone: Zone, proxy: &str, idle: Duration) -> Self {
        assert!(
            std::env::var_os(INSIDE).is_some(),
            "to be started by the test that makes a network"
        );
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        fs::write(folder.path().join("hosts"), "203.0.113.7 listed.example\n").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:53").await.unwrap();
        tokio::spawn(answer(socket, zone));
        tokio::spawn(answer_in_full(listen("127.0.0.1:53").await, zone));

        let (ours, theirs) = control().unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "hosts::tests::the_relay_process"]);
        command.env(FOLDER, folder.path()).env(PROXY, proxy);
        command.env(IDLE, idle.as_millis().to_string());
        command.stdin(theirs).stdout(Stdio::null());
        let process = command.spawn().unwrap();
        // The command keeps the socket's other end open until it is dropped.
        drop(command);
        let log = File::options().create(true).append(true).open(folder.path().join("log"));
        Self { relay: Relay::new(ours).unwrap(), log: log.unwrap(), folder, process }
    }

    /// A stream of a guest's.
    pub(super) async fn stream(&self, rules: &Hosts) -> tokio::net::UnixStream {
        self.relay.open(rules, self.log.as_fd()).await.unwrap()
    }

    /// The log's lines without their times and those that were opened, once there are so many.
    pub(super) async fn lines(&self, count: usize) -> Vec<String> {
        within(async {
            loop {
                let text = fs::read_to_string(self.path()).unwrap();
                let lines = decided(&text);
                if lines.len() >= count && text.ends_with('\n') {
                    return lines;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The states of the process's threads, as the kernel tells them.
    pub(super) fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let status = |task: io::Result<fs::DirEntry>| task.unwrap().path().join("status");
        tasks.map(|task| fs::read_to_string(status(task)).unwrap()).collect()
    }

    /// The most memory that the process has had, in bytes.
    pub(super) fn peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Closes the control socket, and returns what is in the log when the process has ended.
    pub(super) async fn close(self) -> Vec<String> {
        let Self { relay, folder, log: _, mut process } = self;
        drop(relay);
        let ended = tokio::task::spawn_blocking(move || process.wait());
        assert!(within(ended).await.unwrap().unwrap().success());
        decided(&fs::read_to_string(folder.path().join("log")).unwrap())
    }
}

fn decided(log: &str) -> Vec<String> {
    let lines = log.lines().filter_map(|line| line.get(21..));
    lines.filter(|line| !line.starts_with("opened ")).map(str::to_owned).collect()
}

/// Answers by the zone; of a name with more addresses than a packet is meant to hold, that there are more.
async fn answer(socket: UdpSocket, zone: Zone) {
    let mut bytes = [0; 1500];
    loop {
        let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
        let mut told = told(&bytes[..length], zone);
        if told.answers.len() > MOST_IN_A_PACKET {
            told = told.truncate();
        }
        socket.send_to(&told.to_vec().unwrap(), from).await.unwrap();
    }
}

/// The same over TCP: each message after its length (RFC 1035, 4.2.2).
async fn answer_in_full(listener: TcpListener, zone: Zone) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        while let Ok(length) = stream.read_u16().await {
            let mut asked = vec![0; length.into()];
            stream.read_exact(&mut asked).await.unwrap();
            let told = told(&asked, zone).to_vec().unwrap();
            stream.write_u16(told.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&told).await.unwrap();
        }
    }
}

/// The zone's answer to a question; what is not there does not exist.
fn told(asked: &[u8], zone: Zone) -> Message {
    let zone: HashMap<_, _> = zone.iter().copied().collect();
    let asked = Message::from_vec(asked).unwrap();
    let query = asked.queries[0].clone();
    let name = query.name().to_ascii();
    let mut told = Message::response(asked.metadata.id, asked.metadata.op_code);
    match zone.get(name.trim_end_matches('.')) {
        None => told.metadata.response_code = ResponseCode::NXDomain,
        Some(addresses) => {
            let all = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap());
            let ours = all.filter(|one| one.is_ipv4() == (query.query_type() == RecordType::A));
            for address in ours {
                let data = RData::from(address);
                told.add_answer(Record::from_rdata(query.name().clone(), 60, data));
            }
        }
    }
    told.add_query(query);
    told
}

pub(super) async fn listen(address: &str) -> TcpListener {
    TcpListener::bind(address).await.unwrap()
}

pub(super) async fn accepted(listener: &TcpListener) -> TcpStream {
    within(listener.accept()).await.unwrap().0
}
