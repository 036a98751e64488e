//! What a VMM answers on its control sockets and writes of a suspended machine, and what a guest sends on the link.

use std::io::Write;
use std::time::Duration;

use osvm_vmm::fuzz::{Replayed, api, greeting, link, qmp, suspended, vsock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::choice;

/// A peer that has said all and closed its end is waited for no longer than this.
const DEADLINE: Duration = Duration::from_secs(20);

/// First byte: who listens to the rest.
pub fn vmm(bytes: &[u8]) {
    let (who, said) = choice(bytes);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    let listened =
        runtime.block_on(async { tokio::time::timeout(DEADLINE, listen(who, said)).await });
    listened.expect("the end of what is said ends the listening");
}

async fn listen(who: u8, said: &[u8]) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    let heard = async {
        match who % 6 {
            0 => drop(qmp(ours).await),
            1 => drop(api(ours).await),
            2 => drop(vsock(ours).await),
            3 => drop(greeting(ours).await),
            4 => linked(ours).await,
            _ => written(said),
        }
    };
    tokio::join!(heard, say(theirs, said));
}

/// What was left out is what the template has, and is not there to be left out once more.
fn written(stream: &[u8]) {
    let memory = [[0; 4096], [0; 4096], [b'A'; 4096]].concat();
    let mut template = tempfile::tempfile().expect("a file");
    template.write_all(&memory).expect("room for it");
    let changes = |stream: &[u8]| {
        let mut changes = Vec::new();
        suspended(stream, &mut changes, &template).expect("nothing is refused");
        changes
    };
    let once = changes(stream);
    assert!(once == changes(&once));
    assert!(Replayed::of(stream, &memory) == Replayed::of(&once, &memory));
}

/// Says everything, reads whatever is answered, and hangs up.
async fn say(mut socket: UnixStream, said: &[u8]) {
    let _ = socket.write_all(said).await;
    let _ = socket.shutdown().await;
    let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
}

/// A link that is used in both directions until the guest ends it.
async fn linked(socket: UnixStream) {
    let link = link(socket, &[1, 2]);
    let opened = async {
        let Ok(mut stream) = link.open(7).await else { return };
        let _ = stream.write_all(b"hello").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let accepted = async {
        while let Ok((port, mut stream)) = link.accept().await {
            assert!([1, 2].contains(&port));
            let _ = stream.read(&mut [0; 64]).await;
        }
    };
    tokio::join!(opened, accepted, link.closed());
}
