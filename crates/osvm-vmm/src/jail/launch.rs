//! The daemon's end of the talk with the shim.

use std::io;
use std::os::fd::OwnedFd;

use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::plan::Word;
use super::{Layer, LayerState, Order, Plan};

/// A talk with a shim that is being started.
pub(crate) struct Handover {
    socket: BufReader<UnixStream>,
}

/// Why a VMM could not be jailed.
#[derive(Debug, Error)]
pub enum JailError {
    /// The shim's own words: what it did, and why that failed.
    #[error("{act}: {why}")]
    Failed { act: String, why: String, layer: Option<Layer> },
    #[error("talk to the shim")]
    Talk(#[source] io::Error),
    #[error("talk to the shim: it ended without a word")]
    Silent,
    #[error("be sure of {layer}, without which no VMM may run: {state}")]
    Missing { layer: Layer, state: LayerState },
}

impl Handover {
    /// The talk, and the shim's end of it.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((Self { socket: BufReader::new(UnixStream::from_std(ours)?) }, theirs.into()))
    }

    /// Tells the plan and waits for the pid of the process that will be the program.
    pub(crate) async fn prepare(&mut self, plan: Plan) -> Result<u32, JailError> {
        self.say(&Order::Prepare(Box::new(plan))).await?;
        match self.hear().await? {
            Some(Word::Born { pid }) => Ok(pid),
            word => Err(unwanted(word)),
        }
    }

    /// Returns when the process has become the program, which closes the shim's end, or has gone
    /// through its trial.
    pub(crate) async fn go(mut self) -> Result<(), JailError> {
        self.say(&Order::Go).await?;
        match self.hear().await? {
            None | Some(Word::Fit) => Ok(()),
            word => Err(unwanted(word)),
        }
    }

    async fn say(&mut self, order: &Order) -> Result<(), JailError> {
        let mut line = serde_json::to_vec(order).map_err(|error| JailError::Talk(error.into()))?;
        line.push(b'\n');
        self.socket.write_all(&line).await.map_err(JailError::Talk)
    }

    async fn hear(&mut self) -> Result<Option<Word>, JailError> {
        let mut line = String::new();
        match self.socket.read_line(&mut line).await {
            Ok(0) => Ok(None),
            Ok(_) => {
                serde_json::from_str(&line).map_err(|error| JailError::Talk(error.into())).map(Some)
            }
            Err(error) => Err(JailError::Talk(error)),
        }
    }
}

fn unwanted(word: Option<Word>) -> JailError {
    match word {
        Some(Word::Failed { act, why, layer }) => JailError::Failed { act, why, layer },
        _ => JailError::Silent,
    }
}
