//! Tools' definitions and the lock file: one text for each, and nothing in a difference that a terminal obeys.

use std::collections::BTreeMap;

use osvm_spec::lock::{Definition, Difference, Lock, canonical};

use crate::choice;

/// First byte: what the rest is.
pub fn lock(bytes: &[u8]) {
    let (what, bytes) = choice(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match what % 3 {
        0 => file(text),
        1 => definition(text),
        _ => {
            if let Ok(form) = canonical(text) {
                assert_eq!(canonical(&form), Ok(form));
            }
        }
    }
}

fn file(text: &str) {
    let Ok(lock) = Lock::parse(text) else { return };
    assert_eq!(Lock::parse(&lock.to_text()), Ok(lock));
}

fn definition(text: &str) {
    let Ok(tool) = Definition::parse(text) else { return };
    assert_eq!(Definition::parse(&tool.text()).as_ref(), Ok(&tool));
    let tools = BTreeMap::from([(tool.name().to_owned(), tool.clone())]);
    assert_eq!(tools.values().next().map(Definition::hash), Some(tool.hash()));
    for line in Difference::ToolAdded(tool).lines() {
        assert!(!line.to_string().contains(char::is_control), "{line}");
    }
}
