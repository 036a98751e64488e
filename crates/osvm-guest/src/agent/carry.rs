//! Carries a session over the stream that is attached to it.

use std::time::Duration;

use osvm_wire::message::SessionFrame;

use super::session::{Attachment, Next, Session};
use crate::talk::{Receiver, Sender, Stream, StreamError, Talk};

/// How long a finished stream waits for the host to let go of it.
const LINGER: Duration = Duration::from_secs(5);

/// Both directions, until the stream ends, another stream is attached, or the session is finished.
pub(super) async fn carry<S: Stream>(
    session: &Session,
    attachment: &Attachment,
    talk: Talk<S>,
) -> Result<(), StreamError> {
    let Talk { mut incoming, mut outgoing } = talk;
    tokio::select! {
        received = receive(session, attachment, &mut incoming) => return received,
        sent = send(session, attachment, &mut outgoing) => sent?,
    }
    // A host that is still sending must not find the stream broken before it has read the last frames.
    let heard_out = async { while let Ok(Some(_)) = incoming.receive::<SessionFrame>().await {} };
    let _ = tokio::time::timeout(LINGER, heard_out).await;
    Ok(())
}

async fn receive<S: Stream>(
    session: &Session,
    attachment: &Attachment,
    incoming: &mut Receiver<S>,
) -> Result<(), StreamError> {
    while let Some(frame) = incoming.receive().await? {
        let last = frame == SessionFrame::Done;
        session.accept(attachment, frame)?;
        if last {
            break;
        }
    }
    Ok(())
}

async fn send<S: Stream>(
    session: &Session,
    attachment: &Attachment,
    outgoing: &mut Sender<S>,
) -> Result<(), StreamError> {
    loop {
        match session.next_frame(attachment) {
            Next::Frame(frame) => outgoing.send(&frame).await?,
            Next::Wait => attachment.changed().await,
            Next::Over => break,
            Next::Replaced => {
                outgoing.send(&SessionFrame::Replaced).await?;
                break;
            }
        }
    }
    outgoing.end().await
}
