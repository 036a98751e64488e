//! Carries one folder's messages between the kernel and the host, over one stream after the other.
//!
//! ```text
//! /dev/fuse ──take──> Post ──send──> stream to the host
//! /dev/fuse <─────── receive ──────  stream from the host
//! ```
//!
//! What was read of a message that was cut off goes with its stream; whole ones go into the letter box, or out of it,
//! in the same step in which they leave or reach the kernel. So a hang-up at any byte loses none and doubles none.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use osvm_wire::FOLDERS_PORT;
use osvm_wire::grant::{FolderAnswer, OpenFolder};
use osvm_wire::post::{HEADER_LEN, Header, MAX_KEPT, Post, PostError};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Notify, oneshot};

use super::device::{Device, Replies, Requests};
use super::tally::{Reply, Tally};
use crate::reach::call::{CallError, call};
use crate::reach::host::{Host, HostStream};
use crate::talk::{StreamError, Talk};

/// Pause before the next stream.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes of messages that are sent together, and the last one on top.
const TOGETHER: usize = 16 << 10;

/// Bytes of messages that get no reply, and may be kept for want of one.
const STALE: usize = MAX_KEPT / 4 * 3;

/// Which folder, and whose its files are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Folder {
    pub(super) number: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Why a folder can be used no more.
#[derive(Debug, Error)]
pub(super) enum PumpError {
    #[error("{0}")]
    Refused(String),
    #[error("host broke the rules of their stream")]
    Stream(#[source] StreamError),
    #[error("host broke the rules of their stream")]
    Post(#[from] PostError),
    #[error("host sent a reply that is none")]
    NoReply,
    #[error("host failed to serve it (error {0})")]
    Init(i32),
    #[error("use /dev/fuse")]
    Device(#[source] io::Error),
    #[error("it was unmounted")]
    Unmounted,
}

/// Why a stream ended.
enum Broken {
    /// The next one goes on.
    HungUp,
    Over(PumpError),
}

impl<E: Into<PumpError>> From<E> for Broken {
    fn from(error: E) -> Self {
        Self::Over(error.into())
    }
}

/// Told once the kernel and the host have agreed on how to speak, after which programs may use the folder.
pub(super) type Ready = oneshot::Sender<()>;

/// Carries until the folder can be used no more.
pub(super) async fn pump(
    folder: Folder,
    mut device: Device,
    host: Host,
    ready: Ready,
) -> PumpError {
    let mut boxes = Boxes::new(ready);
    loop {
        match carry_once(folder, &mut device, &host, &mut boxes).await {
            Broken::HungUp => tokio::time::sleep(PAUSE).await,
            Broken::Over(error) => return error,
        }
    }
}

async fn carry_once(folder: Folder, device: &mut Device, host: &Host, boxes: &mut Boxes) -> Broken {
    let seen = boxes.lock().post.seen();
    let talk = match open(folder, host, seen).await {
        Ok((seen, talk)) => match boxes.lock().post.resume(seen) {
            Ok(()) => talk,
            Err(error) => return error.into(),
        },
        Err(broken) => return broken,
    };
    let (mut read, mut write) = (talk.incoming.into_bytes(), talk.outgoing.into_bytes());
    let (mut requests, mut replies) = device.split();
    tokio::select! {
        broken = take(&mut requests, boxes) => broken,
        broken = send(&mut write, boxes) => broken,
        broken = receive(&mut read, &mut replies, boxes) => broken,
    }
}

/// A stream to the folder, and how many messages the host has seen.
async fn open(folder: Folder, host: &Host, seen: u64) -> Result<(u64, Talk<HostStream>), Broken> {
    let Folder { number, uid, gid } = folder;
    let question = OpenFolder { folder: number, uid, gid, seen };
    match call(host, FOLDERS_PORT + folder.number, &question).await {
        Ok((FolderAnswer::Opened { seen }, talk)) => Ok((seen, talk)),
        Ok((FolderAnswer::Refused { why }, _)) => Err(PumpError::Refused(why).into()),
        Err(CallError::Stream(error @ (StreamError::Frame(_) | StreamError::Session(_)))) => {
            Err(PumpError::Stream(error).into())
        }
        Err(_) => Err(Broken::HungUp),
    }
}

/// What is under way, in both directions.
struct Boxes {
    state: Mutex<State>,
    /// There is something to send.
    put: Notify,
    /// There may be room for more.
    room: Notify,
}

struct State {
    post: Post,
    tally: Tally,
    ready: Option<Ready>,
}

impl Boxes {
    fn new(ready: Ready) -> Self {
        let state = State { post: Post::default(), tally: Tally::default(), ready: Some(ready) };
        Self { state: Mutex::new(state), put: Notify::new(), room: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, request: Vec<u8>) -> Result<(), PostError> {
        let mut state = self.lock();
        state.tally.request(&request);
        state.post.put(request)?;
        self.put.notify_one();
        Ok(())
    }

    /// A reply has arrived and was given to the kernel. `None` for a message that only tells what was seen.
    fn arrived(&self, header: Header, reply: Option<Reply>) -> Result<(), PumpError> {
        let mut state = self.lock();
        state.post.arrived(header)?;
        self.room.notify_one();
        let Some(reply) = reply else { return Ok(()) };
        state.tally.reply(reply);
        let Some(ready) = state.ready.take() else { return Ok(()) };
        if reply.error != 0 {
            return Err(PumpError::Init(reply.error));
        }
        // Whoever waited may have given up.
        let _ = ready.send(());
        Ok(())
    }

    /// Waits until one more request may be taken.
    async fn room(&self) -> Result<(), Broken> {
        loop {
            {
                let state = self.lock();
                let is_stale = state.post.kept_bytes() >= STALE;
                match (is_stale, state.tally.is_empty()) {
                    (false, _) if state.tally.has_room() => return Ok(()),
                    // Nothing comes that would tell what the host has seen; the next stream begins with it.
                    (true, true) => return Err(Broken::HungUp),
                    _ => {}
                }
            }
            self.room.notified().await;
        }
    }
}

async fn take(requests: &mut Requests<'_>, boxes: &Boxes) -> Broken {
    loop {
        if let Err(broken) = boxes.room().await {
            return broken;
        }
        let put = match requests.next().await {
            Ok(Some(request)) => boxes.put(request),
            Ok(None) => return PumpError::Unmounted.into(),
            Err(error) => return PumpError::Device(error).into(),
        };
        if let Err(error) = put {
            return error.into();
        }
    }
}

/// What was put meanwhile goes together: a call for each message would be most of what a small one costs.
async fn send(stream: &mut (impl AsyncWrite + Unpin), boxes: &Boxes) -> Broken {
    let mut buffer = Vec::new();
    loop {
        buffer.clear();
        fill(&mut buffer, &mut boxes.lock().post);
        if buffer.is_empty() {
            boxes.put.notified().await;
        } else if write(stream, &buffer).await.is_err() {
            return Broken::HungUp;
        }
    }
}

fn fill(buffer: &mut Vec<u8>, post: &mut Post) {
    while buffer.len() < TOGETHER
        && let Some((header, message)) = post.next()
    {
        buffer.extend(header);
        buffer.extend(message);
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    replies: &mut Replies<'_>,
    boxes: &Boxes,
) -> Broken {
    let mut message = Vec::new();
    loop {
        let received = receive_one(stream, replies, boxes, &mut message).await;
        if let Err(broken) = received {
            return broken;
        }
    }
}

async fn receive_one(
    stream: &mut (impl AsyncRead + Unpin),
    replies: &mut Replies<'_>,
    boxes: &Boxes,
    message: &mut Vec<u8>,
) -> Result<(), Broken> {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await.map_err(|_| Broken::HungUp)?;
    let header = Header::parse(header)?;
    message.resize(header.length, 0);
    stream.read_exact(message).await.map_err(|_| Broken::HungUp)?;
    if message.is_empty() {
        return Ok(boxes.arrived(header, None)?);
    }
    let reply = Reply::parse(message).ok_or(PumpError::NoReply)?;
    match replies.give(message).await {
        // The kernel may not like what it is told without having asked.
        Err(error) if reply.unique != 0 => Err(PumpError::Device(error).into()),
        _ => Ok(boxes.arrived(header, Some(reply))?),
    }
}
