//! Frames of an upgraded `exec` connection: what the command reads and writes, and how it ended.
//!
//! A frame is one byte of channel, the payload's length as four bytes little endian, the payload.
//! An empty stdin frame ends the command's input; the exit frame is the last one.

use std::io;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest payload that is sent or taken.
pub const MAX_PAYLOAD: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecFrame {
    Stdin(Vec<u8>),
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Exit(ExecExit),
}

/// How a command ended: with a status, or by a signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub oom_killed: bool,
}

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const EXIT: u8 = 3;

impl ExecFrame {
    /// The next frame, or none when the peer has ended the stream between frames.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Self>> {
        let mut header = [0; 5];
        if from.read(&mut header[..1]).await? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut header[1..]).await?;
        let [channel, length @ ..] = header;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_PAYLOAD {
            return Err(invalid("frame is longer than the limit"));
        }
        let mut payload = vec![0; length];
        from.read_exact(&mut payload).await?;
        match channel {
            STDIN => Ok(Some(Self::Stdin(payload))),
            STDOUT => Ok(Some(Self::Stdout(payload))),
            STDERR => Ok(Some(Self::Stderr(payload))),
            EXIT => Ok(Some(Self::Exit(serde_json::from_slice(&payload)?))),
            _ => Err(invalid("frame has an unknown channel")),
        }
    }

    pub async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let exit;
        let (channel, payload) = match self {
            Self::Stdin(bytes) => (STDIN, bytes),
            Self::Stdout(bytes) => (STDOUT, bytes),
            Self::Stderr(bytes) => (STDERR, bytes),
            Self::Exit(status) => {
                exit = serde_json::to_vec(status)?;
                (EXIT, &exit)
            }
        };
        let length = u32::try_from(payload.len()).map_err(|_| invalid("payload is too long"))?;
        to.write_u8(channel).await?;
        to.write_all(&length.to_le_bytes()).await?;
        to.write_all(payload).await?;
        to.flush().await
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_come_out_as_they_went_in() {
        let exit = ExecExit { code: None, signal: Some(9), oom_killed: true };
        let frames = [
            ExecFrame::Stdin(Vec::new()),
            ExecFrame::Stdout(b"out\0".to_vec()),
            ExecFrame::Stderr(vec![0xff; MAX_PAYLOAD]),
            ExecFrame::Exit(exit),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            frame.write(&mut bytes).await.unwrap();
        }
        let mut rest = bytes.as_slice();
        for frame in frames {
            assert_eq!(ExecFrame::read(&mut rest).await.unwrap(), Some(frame));
        }
        assert_eq!(ExecFrame::read(&mut rest).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_frame_that_claims_gigabytes_is_refused_before_it_is_read() {
        let mut bytes: &[u8] = &[1, 0xff, 0xff, 0xff, 0x7f];
        assert!(ExecFrame::read(&mut bytes).await.is_err());
    }
}
