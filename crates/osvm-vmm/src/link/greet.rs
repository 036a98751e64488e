//! Opens a link over a socket behind which a serial port's guest may still be booting.

use std::io;
use std::time::Duration;

use osvm_wire::link::{Generation, HostHandshake, MESSAGE_LEN};
use rustix::ioctl::{Getter, Opcode, ioctl};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::MissedTickBehavior;

use super::LinkError;

/// How often a HELLO that the guest took without answering is repeated.
const REPEAT: Duration = Duration::from_millis(100);

/// Runs the host's side of the handshake. Afterwards the socket carries the multiplexer.
/// Cancel-safe: the next handshake skips what this one left behind.
pub(crate) async fn greet(socket: &mut UnixStream) -> Result<(), LinkError> {
    let mut handshake = HostHandshake::new(fresh()?);
    // Twice: a guest that has not noticed the last link's end takes the first for a multiplexer's
    // frame, fails on it, and then finds the second.
    send(socket, &[handshake.hello(), handshake.hello()].concat()).await?;
    let mut repeat = tokio::time::interval(REPEAT);
    repeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    repeat.reset();
    let mut buffer = [0; 4 * MESSAGE_LEN];
    loop {
        tokio::select! {
            read = socket.read(&mut buffer) => {
                let length = read.map_err(|_| LinkError::Ended)?;
                if length == 0 {
                    return Err(LinkError::Ended);
                }
                if let Some(opened) = handshake.receive(&buffer[..length])? {
                    // Nothing follows an ACK before the GO, so `opened.rest` is empty or a lie.
                    return send(socket, &opened.send).await;
                }
            }
            _ = repeat.tick() => {
                if is_drained(socket) {
                    send(socket, &handshake.hello_again()).await?;
                }
            }
        }
    }
}

async fn send(socket: &mut UnixStream, bytes: &[u8]) -> Result<(), LinkError> {
    socket.write_all(bytes).await.map_err(|_| LinkError::Ended)
}

fn fresh() -> Result<Generation, LinkError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(LinkError::Random)?;
    Ok(Generation(bytes))
}

/// The VMM has taken all that was sent. It takes nothing while no guest has opened the port, so a
/// booting guest finds one HELLO and not a heap of them.
fn is_drained(socket: &UnixStream) -> bool {
    unsent(socket).is_ok_and(|bytes| bytes == 0)
}

fn unsent(socket: &UnixStream) -> io::Result<i32> {
    const SIOCOUTQ: Opcode = 0x5411;
    // SAFETY: SIOCOUTQ writes one int, which is what this getter makes room for.
    Ok(unsafe { ioctl(socket, Getter::<SIOCOUTQ, i32>::new()) }?)
}
