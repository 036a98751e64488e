//! Lines, envelopes, and a client whose server is hostile.

use std::time::Duration;

use osvm_mcp::envelope::Envelope;
use osvm_mcp::lines::{self, LineReader};
use osvm_mcp::{Client, ClientInfo, Limits};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, split};

use crate::{choice, run};

const LIMIT: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(5);

/// First byte: what reads the rest.
pub fn mcp(bytes: &[u8]) {
    let (what, bytes) = choice(bytes);
    match what % 3 {
        0 => run(broken_into_lines(bytes)),
        1 => run(hostile_server(bytes)),
        _ => envelope(&lines::text(bytes)),
    }
}

/// However they arrive, lines are what stands between line ends.
async fn broken_into_lines(bytes: &[u8]) {
    let (piece, bytes) = choice(bytes);
    let (mut near, far) = tokio::io::duplex(usize::from(piece).max(1));
    let feed = async move {
        let _ = near.write_all(bytes).await;
    };
    let read = async {
        let (mut reader, mut seen) = (LineReader::new(far, LIMIT), Vec::new());
        while let Ok(Some(line)) = reader.next().await {
            assert!(line.bytes.len() <= LIMIT);
            seen.push(line.bytes.to_vec());
        }
        seen
    };
    let ((), seen) = tokio::join!(feed, read);
    let mut expected: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
    expected.pop_if(|last| last.is_empty());
    let short = expected.iter().position(|line| line.len() > LIMIT).unwrap_or(expected.len());
    assert_eq!(seen, expected[..short]);
}

/// What was understood is there byte for byte, and still is with another id.
fn envelope(text: &str) {
    let Ok(envelope) = Envelope::parse(text) else { return };
    let _ = envelope.kind();
    let parts = [envelope.params, envelope.result, envelope.error, envelope.id];
    for part in parts.into_iter().flatten() {
        assert!(text.contains(part.get()));
    }
    let id = RawValue::from_string("\"osvm\"".to_owned()).expect("a string");
    let other = envelope.with_id(&id);
    let again = Envelope::parse(&other).expect("another id changes nothing else");
    let get = |part: Option<&RawValue>| part.map(|part| part.get().to_owned());
    assert_eq!(again.method, envelope.method);
    for (new, old) in [
        (again.params, envelope.params),
        (again.result, envelope.result),
        (again.error, envelope.error),
    ] {
        assert_eq!(get(new), get(old));
    }
}

/// Asks a server for everything there is to ask. Each of its answers is what stands between two
/// bytes 0xff, given when the client has said the next line.
async fn hostile_server(answers: &[u8]) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let (reader, writer) = split(far);
    let limits = Limits {
        line_bytes: LIMIT,
        open_requests: 4,
        garbage_lines: 20,
        list_items: 20,
        handshake: PATIENCE,
        ..Limits::default()
    };
    let info = ClientInfo { name: "fuzz".to_owned(), version: "0".to_owned() };
    let asked = async {
        let Ok(client) = Client::connect(reader, writer, info, limits).await else { return };
        let _ = client.list_tools(PATIENCE).await;
        let arguments = RawValue::from_string("{}".to_owned()).expect("an object");
        let _ = client.call_tool("tool", &arguments, PATIENCE).await;
        let _ = client.list_resources(PATIENCE).await;
        let _ = client.list_resource_templates(PATIENCE).await;
        let _ = client.list_prompts(PATIENCE).await;
        let _ = client.received().to_string();
    };
    tokio::join!(asked, answer(near, answers));
}

async fn answer(stream: DuplexStream, answers: &[u8]) {
    let (input, mut output) = split(stream);
    let mut input = BufReader::new(input);
    for answer in answers.split(|byte| *byte == 0xff) {
        match input.read_until(b'\n', &mut Vec::new()).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let _ = output.write_all(answer).await;
        let _ = output.write_all(b"\n").await;
    }
}
