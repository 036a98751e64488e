//! A host that serves folders, as plain as can be: over streams that break at any byte, and under a kernel that mounts
//! them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use osvm_wire::FOLDERS_PORT;
use osvm_wire::grant::{FolderAnswer, FolderGrant, Grants, OpenFolder};
use osvm_wire::message::{Outcome, Refusal, Reply, Request, Spawn};
use osvm_wire::post::{HEADER_LEN, Header, Post};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::sync::oneshot;

use super::device::Device;
use super::pump::{Folder, pump};
use crate::agent::tests::host::{Client, agent, ask, open, shell};
use crate::alone;
use crate::reach::Host;
use crate::reach::host::HostStream;
use crate::reach::host::tests::{Accepted, direct};
use crate::talk::{Bytes, Talk};

const DEADLINE: Duration = Duration::from_secs(60);

/// One folder's server.
struct Server {
    post: Post,
    /// Numbers of the requests that came, in their order.
    uniques: Vec<u64>,
    made: BTreeSet<String>,
    written: Vec<u8>,
    owner: (u32, u32),
}

const CONTENT: usize = 300_000;

fn content() -> Vec<u8> {
    (0..CONTENT).map(|at| (at % 251) as u8).collect()
}

/// Fields of a message, one after the other.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_ne_bytes());
        self
    }

    fn zeros(mut self, count: usize) -> Self {
        self.0.resize(self.0.len() + count, 0);
        self
    }

    /// `struct fuse_attr`: file 2, and folders.
    fn attr(self, node: u64, (uid, gid): (u32, u32)) -> Self {
        let (mode, size) = if node == 2 { (0o100_644, CONTENT) } else { (0o40_755, 0) };
        let times = self.u64(node).u64(size as u64).u64(0).zeros(36);
        times.u32(mode).u32(1).u32(uid).u32(gid).zeros(12)
    }

    /// `struct fuse_entry_out`.
    fn entry(node: u64, owner: (u32, u32)) -> Self {
        Self::default().u64(node).zeros(32).attr(node, owner)
    }
}

impl Server {
    fn new() -> Self {
        Self {
            post: Post::default(),
            uniques: Vec::new(),
            made: BTreeSet::new(),
            written: Vec::new(),
            owner: (0, 0),
        }
    }

    /// A reply to a request, where it gets one.
    fn answer(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let u32_at = |at: usize| u32::from_ne_bytes(*request[at..].first_chunk().unwrap());
        let u64_at = |at: usize| u64::from_ne_bytes(*request[at..].first_chunk().unwrap());
        let (code, unique, node) = (u32_at(4), u64_at(8), u64_at(16));
        self.uniques.push(unique);
        let body = match code {
            // FORGET, INTERRUPT, BATCH_FORGET
            2 | 36 | 42 => return None,
            // INIT
            26 => {
                let version = Fields::default().u32(7).u32(31).u32(0).u32(0).u32(0);
                Ok(version.u32(1 << 20).u32(1).zeros(36))
            }
            1 => self.look_up(&request[40..]),
            // GETATTR
            3 => Ok(Fields::default().zeros(16).attr(node, self.owner)),
            9 => self.make(&request[48..]),
            // OPEN, OPENDIR
            14 | 27 => Ok(Fields::default().zeros(16)),
            // READ
            15 => {
                let (start, size) = (u64_at(48) as usize, u32_at(56) as usize);
                let end = (start + size).min(CONTENT);
                Ok(Fields(content()[start.min(end)..end].to_vec()))
            }
            // WRITE
            16 => {
                self.written.extend(&request[80..]);
                Ok(Fields::default().u32(u32_at(56)).u32(0))
            }
            // FLUSH, RELEASE, RELEASEDIR, READDIR
            25 | 18 | 29 | 28 => Ok(Fields::default()),
            _ => Err(38),
        };
        let (error, Fields(body)) = match body {
            Ok(body) => (0, body),
            Err(error) => (-error, Fields::default()),
        };
        let header = Fields::default().u32(16 + body.len() as u32).u32(error as u32).u64(unique);
        Some([header.0, body].concat())
    }

    fn look_up(&self, name: &[u8]) -> Result<Fields, i32> {
        let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        match name.as_str() {
            "file" => Ok(Fields::entry(2, self.owner)),
            name if self.made.contains(name) => Ok(Fields::entry(3, self.owner)),
            _ => Err(2),
        }
    }

    fn make(&mut self, name: &[u8]) -> Result<Fields, i32> {
        self.made.insert(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
        Ok(Fields::entry(3, self.owner))
    }

    /// Serves one stream, which breaks after `left` bytes.
    async fn serve(&mut self, stream: HostStream, left: usize) -> Option<()> {
        let (mut stream, open) = greet(stream, self.post.seen(), left).await?;
        self.owner = (open.uid, open.gid);
        self.post.resume(open.seen).unwrap();
        loop {
            while let Some((header, message)) = self.post.next() {
                stream.write(&[&header, message].concat()).await?;
            }
            let header = stream.read(HEADER_LEN).await?;
            let header = Header::parse(*header.first_chunk().unwrap()).unwrap();
            let request = stream.read(header.length).await?;
            self.post.arrived(header).unwrap();
            if let Some(reply) = self.answer(&request) {
                self.post.put(reply).unwrap();
            }
        }
    }
}

/// A stream that breaks.
struct Breaking {
    read: Bytes<HostStream>,
    write: WriteHalf<HostStream>,
    left: usize,
}

impl Breaking {
    fn new(read: Bytes<HostStream>, write: WriteHalf<HostStream>, left: usize) -> Self {
        Self { read, write, left }
    }

    async fn read(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count.min(self.left)];
        self.read.read_exact(&mut bytes).await.ok()?;
        self.left -= bytes.len();
        (bytes.len() == count).then_some(bytes)
    }

    async fn write(&mut self, bytes: &[u8]) -> Option<()> {
        let now = &bytes[..bytes.len().min(self.left)];
        self.write.write_all(now).await.ok()?;
        self.left -= now.len();
        (now.len() == bytes.len()).then_some(())
    }
}

async fn greet(stream: HostStream, seen: u64, left: usize) -> Option<(Breaking, OpenFolder)> {
    let mut talk = Talk::new(stream);
    let open: OpenFolder = talk.incoming.receive().await.ok()??;
    talk.outgoing.send(&FolderAnswer::Opened { seen }).await.ok()?;
    let bytes = talk.incoming.into_bytes();
    Some((Breaking::new(bytes, talk.outgoing.into_bytes(), left), open))
}

/// Numbers that look random and are the same in every run.
fn next(numbers: &mut u64, limit: usize) -> usize {
    *numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*numbers >> 33) as usize % limit
}

/// A stand-in for `/dev/fuse`, and the kernel's end of it.
fn device() -> (OwnedFd, OwnedFd) {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap()
}

fn request(unique: u64, code: u32, size: usize) -> Vec<u8> {
    let header = Fields::default().u32(size as u32).u32(code).u64(unique).u64(2);
    header.zeros(size - 24).0
}

fn link(host: &Host) -> (Accepted, crate::reach::host::Linked) {
    let (link, accepted) = direct();
    (accepted, host.linked(link))
}

const FOLDER: Folder = Folder { number: 3, uid: 5, gid: 6 };

#[tokio::test]
async fn no_message_is_lost_or_doubled_over_many_hang_ups() {
    const COUNT: u64 = 400;
    let (ours, kernel) = device();
    let host = Host::default();
    let (mut accepted, _linked) = link(&host);
    let (ready, is_ready) = oneshot::channel();
    tokio::spawn(pump(FOLDER, Device::new(ours).unwrap(), host, ready));

    let (mut server, mut hang_ups) = (Server::new(), 0);
    let serve = async {
        let mut numbers = 7;
        while let Some((port, stream)) = accepted.recv().await {
            assert_eq!(port, FOLDERS_PORT + FOLDER.number);
            // Some streams break at once, some after many messages.
            let most = if hang_ups % 3 == 0 { 90 } else { 600_000 };
            server.serve(stream, next(&mut numbers, most)).await;
            hang_ups += 1;
        }
    };

    let mut kernel = Device::new(kernel).unwrap();
    let (mut replies, mut requests) = kernel.split();
    let ask = async {
        requests.give(&request(1, 26, 104)).await.unwrap();
        let mut numbers = 9;
        for unique in 2..=COUNT {
            // Reads and writes, of up to 60 kB.
            let code = if unique % 2 == 0 { 3 } else { 16 };
            requests.give(&request(unique, code, 100 + next(&mut numbers, 60_000))).await.unwrap();
        }
    };
    let hear = async {
        let mut heard = Vec::new();
        while heard.len() < COUNT as usize {
            let reply = replies.next().await.unwrap().unwrap();
            heard.push(super::tally::Reply::parse(&reply).unwrap().unique);
        }
        heard
    };
    let both = async { tokio::join!(ask, hear) };
    let ((), heard) = tokio::select! {
        () = serve => panic!("the pump has ended"),
        both = tokio::time::timeout(DEADLINE, both) => both.expect("all replies in time"),
    };
    let expected: Vec<u64> = (1..=COUNT).collect();
    assert!(heard == expected && server.uniques == expected);
    is_ready.await.unwrap();
    assert!(hang_ups > 10, "{hang_ups} hang-ups");
}

#[tokio::test]
async fn a_host_that_refuses_or_lies_ends_the_folder() {
    for (answer, bytes, expected) in [
        (FolderAnswer::Refused { why: "not there".into() }, &b""[..], "not there"),
        (FolderAnswer::Opened { seen: 9 }, b"", "host broke the rules of their stream"),
        (FolderAnswer::Opened { seen: 0 }, &[0xFF; 40], "host broke the rules of their stream"),
        (
            FolderAnswer::Opened { seen: 0 },
            b"\0\0\0\0\0\0\0\0\x01\0\0\0x",
            "host sent a reply that is none",
        ),
    ] {
        let (ours, _kernel) = device();
        let host = Host::default();
        let (mut accepted, _linked) = link(&host);
        let (ready, is_ready) = oneshot::channel();
        let pumping = tokio::spawn(pump(FOLDER, Device::new(ours).unwrap(), host, ready));
        let mut talk = Talk::new(accepted.recv().await.unwrap().1);
        let open = talk.incoming.receive().await.unwrap();
        assert_eq!(open, Some(OpenFolder { folder: 3, uid: 5, gid: 6, seen: 0 }));
        talk.outgoing.send(&answer).await.unwrap();
        let (_read, mut write): (Bytes<_>, WriteHalf<_>) =
            (talk.incoming.into_bytes(), talk.outgoing.into_bytes());
        let _ = write.write_all(bytes).await;
        assert_eq!(pumping.await.unwrap().to_string(), expected);
        assert!(is_ready.await.is_err());
    }
}

#[tokio::test]
async fn a_folder_that_is_unmounted_ends_its_stream() {
    let (ours, kernel) = device();
    let host = Host::default();
    let (mut accepted, _linked) = link(&host);
    let (ready, _is_ready) = oneshot::channel();
    let pumping = tokio::spawn(pump(FOLDER, Device::new(ours).unwrap(), host, ready));
    let mut server = Server::new();
    let (_, stream) = accepted.recv().await.unwrap();
    drop(kernel);
    assert_eq!(server.serve(stream, usize::MAX).await, None);
    assert_eq!(pumping.await.unwrap().to_string(), "it was unmounted");
}

/// Whether this kernel has FUSE, and lets us.
fn has_fuse() -> bool {
    let opened = fs::File::open("/dev/fuse");
    opened.inspect_err(|error| eprintln!("skipped: no /dev/fuse: {error}")).is_ok()
}

/// Serves every folder from one server each, over streams that break now and then.
async fn serve_all(mut accepted: Accepted, written: Arc<Mutex<Vec<u8>>>, breaks_after: usize) {
    let servers =
        [Server::new(), Server::new()].map(|server| Arc::new(tokio::sync::Mutex::new(server)));
    while let Some((_, stream)) = accepted.recv().await {
        let (servers, written) = (servers.clone(), Arc::clone(&written));
        tokio::spawn(async move {
            let (stream, number) = peek(stream).await;
            let mut server = servers[number as usize].lock().await;
            server.serve(stream, breaks_after).await;
            written.lock().unwrap().clone_from(&server.written);
        });
    }
}

/// Which folder a stream is for; the stream then begins with the same message again.
async fn peek(stream: HostStream) -> (HostStream, u32) {
    let mut talk = Talk::new(stream);
    let open: OpenFolder = talk.incoming.receive().await.unwrap().unwrap();
    let bytes = io::Cursor::new(osvm_wire::frame::encode(&open).unwrap());
    let read: tokio::io::Chain<_, Bytes<HostStream>> = bytes.chain(talk.incoming.into_bytes());
    (Box::new(tokio::io::join(read, talk.outgoing.into_bytes())), open.folder)
}

fn folder(at: &Path, writable: bool) -> FolderGrant {
    FolderGrant { at: at.to_str().unwrap().to_owned(), writable }
}

async fn use_folders() {
    let dir = place();
    let (work, below) = (dir.join("work"), dir.join("work/below"));
    let agent = agent();
    let (link, accepted) = direct();
    let _linked = agent.host().linked(link);
    let written = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn(serve_all(accepted, Arc::clone(&written), 150_000));
    // The inner one is told first, and lies in the outer one, which the agent serves itself.
    let folders = vec![folder(&below, false), folder(&work, true)];
    let grants = Grants { folders, ..Grants::default() };
    for _ in 0..2 {
        assert_eq!(ask(&agent, Request::Grant(grants.clone())).await, Reply::Granted);
    }
    let refused = ask(&agent, Request::Grant(Grants::default())).await;
    assert!(matches!(refused, Reply::Refused(Refusal::Invalid { .. })), "{refused:?}");

    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = |at: &Path| {
        let has = |line: &&str| line.split(' ').nth(1) == at.to_str();
        mounts.lines().find(has).unwrap_or_else(|| panic!("{mounts}")).to_owned()
    };
    assert!(line(&work).contains(" fuse.osvm rw,nosuid,nodev"), "{mounts}");
    assert!(line(&below).contains(" fuse.osvm ro,nosuid,nodev"), "{mounts}");

    // The program's own folder is one of them: it is entered and looked into while the agent starts it.
    let cwd = Some(work.to_str().unwrap().to_owned());
    let script = "cat file below/file; stat -c %u:%g file >&2; dd if=file of=file conv=notrunc bs=50k 2>/dev/null";
    let owner = "0:0\n".to_owned();
    let client = Client::run(&agent, Spawn { cwd, ..shell(1, script) }, b"").await;
    assert_eq!((client.code(), client.stderr.text()), (Some(Outcome::Code(0)), owner));
    assert!(client.stdout.bytes == [content(), content()].concat());
    let touch = format!("echo x > {}/file", below.display());
    let client = Client::run(&agent, shell(2, &touch), b"").await;
    assert!(client.stderr.text().contains("Read-only file system"), "{}", client.stderr.text());
    // More streams break until the last of it has been looked at.
    let client = Client::run(&agent, shell(3, &format!("cat {}/file", work.display())), b"").await;
    assert!(client.stdout.bytes == content());
    assert!(content().starts_with(&written.lock().unwrap()[..]));
}

async fn lose_a_folder() {
    let dir = place();
    let agent = agent();
    let (link, mut accepted) = direct();
    let _linked = agent.host().linked(link);
    let serving = tokio::spawn(async move {
        let mut server = Server::new();
        let (_, stream) = accepted.recv().await.unwrap();
        server.serve(stream, 1000).await;
        let mut talk = Talk::new(accepted.recv().await.unwrap().1);
        talk.outgoing.send(&FolderAnswer::Refused { why: "it was removed".into() }).await.unwrap();
        let _ = talk.incoming.receive::<OpenFolder>().await;
    });
    let grants = Grants { folders: vec![folder(&dir, false)], ..Grants::default() };
    assert_eq!(ask(&agent, Request::Grant(grants)).await, Reply::Granted);
    let script = format!("cat {0}/file; ls {0}", dir.display());
    let client = Client::run(&agent, shell(1, &script), b"").await;
    serving.await.unwrap();
    let stderr = client.stderr.text();
    assert!(stderr.contains("ot connected"), "{stderr}");
}

async fn fail_to_mount() {
    let dir = place();
    let agent = agent();
    let (link, mut accepted) = direct();
    let _linked = agent.host().linked(link);
    tokio::spawn(async move {
        let mut talk = Talk::new(accepted.recv().await.unwrap().1);
        talk.outgoing.send(&FolderAnswer::Refused { why: "no such folder".into() }).await.unwrap();
        let _ = talk.incoming.receive::<OpenFolder>().await;
    });
    let grants = Grants { folders: vec![folder(&dir, false)], ..Grants::default() };
    let (Reply::Refused(refusal), _) = open(&agent, Request::Grant(grants)).await else { panic!() };
    let expected = format!("guest failed to mount {}: no such folder", dir.display());
    assert_eq!(refusal.to_string(), expected);
}

async fn fail_to_make_its_place() {
    let agent = agent();
    let folders = vec![folder(Path::new("/proc/version"), false)];
    let grants = Grants { folders, ..Grants::default() };
    let (Reply::Refused(refusal), _) = open(&agent, Request::Grant(grants)).await else { panic!() };
    let expected = "guest failed to mount /proc/version: its place can't be made: \
                    Not a directory (os error 20)";
    assert_eq!(refusal.to_string(), expected);
}

/// In memory of the namespace's own. Nobody removes it: that would wait for messages that this thread carries.
fn place() -> PathBuf {
    rustix::mount::mount("test", "/tmp", "tmpfs", rustix::mount::MountFlags::empty(), None)
        .unwrap();
    "/tmp/place".into()
}

fn alone(story: impl Future<Output = ()>) {
    if has_fuse() && alone::inside() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = async { tokio::time::timeout(DEADLINE, story).await.expect("in time") };
        runtime.block_on(told);
    }
}

#[test]
fn folders_are_used_by_programs_over_streams_that_break() {
    alone(use_folders());
}

#[test]
fn a_folder_that_the_host_takes_back_is_not_connected() {
    alone(lose_a_folder());
}

#[test]
fn a_folder_that_the_host_refuses_is_named_with_the_reason() {
    alone(fail_to_mount());
}

#[test]
fn a_folder_that_has_no_place_is_named_with_the_reason() {
    alone(fail_to_make_its_place());
}
