//! Moves bytes between a session and its process's pipes. A pump stops where a window is full, so that a
//! process which floods its output is stopped by its pipe and never fills the agent's memory.
//!
//! Each session has a thread for it. To read or write a pipe is to wait, non-blocking or not, while the process
//! splices into it from a file, or out of it into one; and the file may lie in a folder whose messages the agent's
//! main thread carries.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::session::{Input, Session, Which};
use crate::console::say;
use crate::process::Pipes;

/// How much is moved at a time.
const CHUNK: usize = 16 * 1024;

/// How long an output may stay silent after the process's end before it counts as ended: a descendant that
/// escaped the session may hold it open for ever.
const LINGER: Duration = Duration::from_millis(500);

/// A thread that waits for its session, or to be dropped.
pub(super) struct Pumps(mpsc::Sender<(Arc<Session>, Pipes)>);

impl Pumps {
    pub(super) fn start() -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel::<(Arc<Session>, Pipes)>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            let Ok((session, pipes)) = receiver.recv() else { return };
            if let Err(error) = runtime.block_on(pump(&session, pipes)) {
                say(format_args!("session {}: failed to open its pipes: {error}", session.id()));
                session.kill();
            }
        };
        thread::Builder::new().name("pipes".to_owned()).spawn(run)?;
        Ok(Self(sender))
    }

    pub(super) fn take(self, session: &Arc<Session>, pipes: Pipes) {
        // A thread that has ended has told why.
        let _ = self.0.send((Arc::clone(session), pipes));
    }
}

/// All three, until the session needs them no more.
async fn pump(session: &Session, pipes: Pipes) -> io::Result<()> {
    let stdin = pipe::Sender::from_owned_fd(pipes.stdin)?;
    let stdout = pipe::Receiver::from_owned_fd(pipes.stdout)?;
    let stderr = pipe::Receiver::from_owned_fd(pipes.stderr)?;
    tokio::join!(
        pump_input(session, stdin),
        pump_output(session, stdout, Which::Stdout),
        pump_output(session, stderr, Which::Stderr),
    );
    Ok(())
}

async fn pump_input(session: &Session, pipe: pipe::Sender) {
    // Set to nothing when the process no longer reads: what comes then is thrown away.
    let mut pipe = Some(pipe);
    loop {
        match session.peek_input(CHUNK) {
            Input::Bytes(bytes) => {
                let count = feed(session, &mut pipe, &bytes).await;
                session.consume_input(count);
            }
            Input::None => session.input.notified().await,
            Input::End => return,
        }
    }
}

/// Gives bytes to the process; returns how many of them are dealt with.
async fn feed(session: &Session, pipe: &mut Option<pipe::Sender>, bytes: &[u8]) -> usize {
    let Some(open) = pipe else { return bytes.len() };
    let written = tokio::select! {
        written = open.write(bytes) => written.ok(),
        () = session.wait_for_exit() => None,
    };
    written.unwrap_or_else(|| {
        *pipe = None;
        bytes.len()
    })
}

async fn pump_output(session: &Session, mut pipe: pipe::Receiver, which: Which) {
    let mut buffer = vec![0; CHUNK];
    while !session.is_finished() {
        let room = session.room(which).min(CHUNK);
        if room == 0 {
            session.room[which as usize].notified().await;
            continue;
        }
        match read(session, &mut pipe, &mut buffer[..room]).await {
            0 => break,
            count => session.push_output(which, &buffer[..count]),
        }
    }
    session.end_output(which);
}

/// Reads what the process wrote; 0 at the end.
async fn read(session: &Session, pipe: &mut pipe::Receiver, buffer: &mut [u8]) -> usize {
    let ended = async {
        session.wait_for_exit().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        biased;
        // A pipe that fails has nothing more to give.
        count = pipe.read(buffer) => count.unwrap_or(0),
        () = ended => 0,
    }
}
