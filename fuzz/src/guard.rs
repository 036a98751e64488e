//! The guard of a conversation whose client and server are both hostile: whatever they say, the server never hears of a
//! call that its user forbids.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use osvm_mcp::{Guard, Outcome, Passage, Rules, ToolSet, Unmade};
use osvm_spec::{ToolLimits, ToolPolicy};
use serde_json::value::RawValue;

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
    let made = guard.take_ended().into_iter().filter(|call| call.tool == DENIED);
    made.for_each(|call| assert!(matches!(call.outcome, Outcome::Refused(_))));
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
    let some = has(3).then(|| "apart".to_owned()).into_iter().collect();
    let denied = vec![DENIED.parse().expect("a tool's name")];
    Rules {
        policy: ToolPolicy { denied, limits, ..ToolPolicy::default() },
        apart: if has(6) { ToolSet::AllBut(some) } else { ToolSet::These(some) },
        bodies: has(4),
        must_be_recorded: has(5),
        ..Rules::default()
    }
}

/// What passes, as a reader without limits of depth sees it, who takes the last of several fields of a name.
fn look(passage: &Passage<'_>) {
    for line in passage.to_server.split(|byte| *byte == b'\n') {
        let Ok(message) = serde_json::from_slice::<&RawValue>(line) else { continue };
        let batch = serde_json::from_str::<Vec<&RawValue>>(message.get());
        for message in batch.unwrap_or_else(|_| vec![message]) {
            let text = |value: Option<&RawValue>| {
                value.and_then(|value| serde_json::from_str::<String>(value.get()).ok())
            };
            if text(last(message, "method")).as_deref() == Some("tools/call") {
                let tool = last(message, "params").and_then(|params| text(last(params, "name")));
                assert_ne!(tool.as_deref(), Some(DENIED));
            }
        }
    }
}

fn last<'a>(object: &'a RawValue, name: &str) -> Option<&'a RawValue> {
    serde_json::from_str::<HashMap<String, &RawValue>>(object.get()).ok()?.remove(name)
}
