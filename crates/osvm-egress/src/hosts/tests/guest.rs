//! What a guest's agent does with a stream.

use osvm_spec::Hosts;
use osvm_wire::frame::{self, Decoder};
use osvm_wire::grant::{HostAnswer, HostRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::super::chunked::Chunked;
use super::net::{Net, within};

pub(super) fn allow(rules: &[&str]) -> Hosts {
    let allow = rules.iter().map(|rule| rule.parse().unwrap()).collect();
    Hosts { allow, allow_private: Vec::new() }
}

/// A connection, or why there is none.
pub(super) async fn connect(
    net: &Net,
    rules: &Hosts,
    host: &str,
    port: u16,
) -> Result<Chunked<UnixStream>, String> {
    let mut stream = net.stream(rules).await;
    say(&mut stream, &HostRequest::Connect { host: host.to_owned(), port }).await;
    match hear(&mut stream).await {
        HostAnswer::Connected => Ok(Chunked::new(stream)),
        HostAnswer::Refused { why } => Err(why),
    }
}

pub(super) async fn refusal(net: &Net, rules: &Hosts, host: &str, port: u16) -> String {
    connect(net, rules, host, port).await.map(|_| ()).unwrap_err()
}

pub(super) async fn say(stream: &mut UnixStream, request: &HostRequest) {
    stream.write_all(&frame::encode(request).unwrap()).await.unwrap();
}

async fn hear(stream: &mut UnixStream) -> HostAnswer {
    let mut decoder = Decoder::default();
    within(async {
        loop {
            // Not a byte of what follows the answer.
            decoder.push(&[stream.read_u8().await.unwrap()]);
            if let Some(answer) = decoder.decode().unwrap() {
                return answer;
            }
        }
    })
    .await
}
