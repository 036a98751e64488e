//! Moves bytes between a session and its process's pipes. A pump stops where a window is full, so that a
//! process which floods its output is stopped by its pipe and never fills the agent's memory.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use super::session::{Input, Session, Which};

/// How much is moved at a time.
const CHUNK: usize = 16 * 1024;

/// How long an output may stay silent after the process's end before it counts as ended: a descendant that
/// escaped the session may hold it open for ever.
const LINGER: Duration = Duration::from_millis(500);

/// Starts the three pumps of a session.
pub(super) fn start(
    session: &Arc<Session>,
    stdin: pipe::Sender,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
) {
    tokio::spawn(pump_input(Arc::clone(session), stdin));
    tokio::spawn(pump_output(Arc::clone(session), stdout, Which::Stdout));
    tokio::spawn(pump_output(Arc::clone(session), stderr, Which::Stderr));
}

async fn pump_input(session: Arc<Session>, pipe: pipe::Sender) {
    // Set to nothing when the process no longer reads: what comes then is thrown away.
    let mut pipe = Some(pipe);
    loop {
        match session.peek_input(CHUNK) {
            Input::Bytes(bytes) => {
                let count = feed(&session, &mut pipe, &bytes).await;
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

async fn pump_output(session: Arc<Session>, mut pipe: pipe::Receiver, which: Which) {
    let mut buffer = vec![0; CHUNK];
    while !session.is_finished() {
        let room = session.room(which).min(CHUNK);
        if room == 0 {
            session.room[which as usize].notified().await;
            continue;
        }
        match read(&session, &mut pipe, &mut buffer[..room]).await {
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
