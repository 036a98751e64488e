//! A bridge between two eras, both of whose sides are hostile.

use std::time::{Duration, Instant};

use osvm_mcp::envelope::Envelope;
use osvm_mcp::{Bridge, Era, Terms};

use crate::choice;

const PATIENCE: Duration = Duration::from_secs(600);

/// First byte: the client's era. Then lines, each of which begins with who says it: `<` the server, `!` the end of it,
/// `+` time, and else the client.
pub fn bridge(bytes: &[u8]) {
    let (era, bytes) = choice(bytes);
    let (client, server) = match era % 2 {
        0 => (Era::Modern, Era::Legacy),
        _ => (Era::Legacy, Era::Modern),
    };
    let mut now = Instant::now();
    let (server_version, binding) = ("2025-06-18".to_owned(), b"binding".to_vec());
    let terms = Terms { server_version, binding, key: [0; 32], patience: PATIENCE };
    let mut bridge = Bridge::between(client, server, terms, now).expect("the eras differ");
    for line in bytes.split(|byte| *byte == b'\n') {
        let step = match line.split_first() {
            Some((b'<', line)) => bridge.of_server(line, now),
            Some((b'!', _)) => bridge.lost("gone"),
            Some((b'+', _)) => {
                now += PATIENCE;
                bridge.expire(now)
            }
            _ => bridge.of_client(line, now),
        };
        for said in step.to_client.iter().chain(&step.to_server) {
            assert!(!said.contains(&b'\n'), "a line is one line");
            let text = std::str::from_utf8(said).expect("a message is text");
            Envelope::parse(text).expect("what is said is a message");
        }
    }
}
