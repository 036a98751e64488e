//! Locks, and servers that changed since.

mod canon;
mod changes;
mod files;

use super::*;

fn digest(digit: char) -> Digest {
    Digest::of_hex(&digit.to_string().repeat(64)).unwrap()
}

fn tool(json: &str) -> Definition {
    Definition::parse(json).unwrap()
}

fn tools(all: &[&str]) -> BTreeMap<String, Definition> {
    all.iter().map(|json| tool(json)).map(|tool| (tool.name().to_owned(), tool)).collect()
}

fn pin(name: &str, version: &str, integrity: &str) -> Pin {
    Pin { name: name.into(), version: version.into(), integrity: integrity.into() }
}

const ADD: &str = r#"{"name":"add","description":"Adds\ntwo numbers","inputSchema":
    {"type":"object","properties":{"a":{"type":"number"},"b":{"type":"number"}}}}"#;
const ECHO: &str = r#"{"name":"echo","description":"Says it again","title":"Echo"}"#;

fn locked() -> Locked {
    Locked {
        image: digest('a'),
        origin: "npm:server@1".into(),
        packages: BTreeSet::from([pin("npm:server", "1.0.0", "sha512-x")]),
        tools: Tools::Known(tools(&[ADD, ECHO])),
    }
}
