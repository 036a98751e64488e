//! The guard of a conversation whose client and server are both hostile: whatever they say, the server never hears of a
//! call that its user forbids, and all that is said is whole lines.

use std::time::{Duration, Instant};

use osvm_mcp::{Guard, Passage, Rules, Unmade};
use osvm_spec::{ToolLimits, ToolPolicy};
use serde_json::Value;

use crate::choice;

/// First byte: what else than a denied tool the policy has. Then lines, each of which begins with who says it: `<` the
/// server, `+` time, `?` whoever makes calls elsewhere, and else the client.
pub fn guard(bytes: &[u8]) {
    let (more, bytes) = choice(bytes);
    let mut now = Instant::now();
    let mut guard = Guard::new(rules(more));
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.split_first() {
            Some((b'<', line)) => look(&guard.of_server(line, now)),
            Some((b'+', _)) => {
                now += Duration::from_secs(60);
                look(&guard.due(now));
            }
            Some((b'?', _)) => {
                for call in guard.take_apart() {
                    assert_ne!(call.tool, DENIED);
                    let unmade = Unmade::Failed("no VM".to_owned());
                    look(&guard.answer_apart(call.number, Err(unmade), now));
                }
            }
            _ => look(&guard.of_client(line, now)),
        }
    }
    guard.end(now);
    assert_eq!(guard.open_calls(), 0);
    drop(guard.take_ended());
}

const DENIED: &str = "denied";

/// With tools of which each has one limit, as the bits of `more` say.
fn rules(more: u8) -> Rules {
    let limits = [
        ("confirm", ToolLimits { confirm: true, ..ToolLimits::default() }),
        ("short", ToolLimits { max_result_bytes: Some(64), ..ToolLimits::default() }),
        ("quick", ToolLimits { timeout: Some(Duration::from_secs(30)), ..ToolLimits::default() }),
    ];
    let has = |bit: u8| more >> bit & 1 == 1;
    let limits = limits.into_iter().enumerate().filter(|(bit, _)| has(*bit as u8));
    let limits = limits.map(|(_, (tool, limits))| (tool.to_owned(), limits)).collect();
    let denied = vec![DENIED.parse().expect("a tool's name")];
    Rules {
        policy: ToolPolicy { denied, limits, ..ToolPolicy::default() },
        apart: has(3).then(|| "apart".to_owned()).into_iter().collect(),
        bodies: has(4),
        must_be_recorded: has(5),
        ..Rules::default()
    }
}

fn look(passage: &Passage<'_>) {
    for line in passage.to_server.split(|byte| *byte == b'\n') {
        let Ok(said) = serde_json::from_slice::<Value>(line) else { continue };
        let messages = said.as_array().map_or(std::slice::from_ref(&said), Vec::as_slice);
        for message in messages.iter().filter(|message| message["method"] == "tools/call") {
            assert_ne!(message["params"]["name"], DENIED);
        }
    }
    for message in passage.to_client.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        // What a server prints beside its messages passes as it is.
        let _ = serde_json::from_slice::<Value>(message);
    }
}
