//! `osvm mcp record` with a daemon that has recorded already.

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, error, ready};
use crate::osvm::Osvm;

const LAUNCH: &str = "POST /v1/vms";

fn recorded() -> Value {
    let need = json!({ "rule": "api.example.com:443", "reason": "refused once" });
    let policy = json!({
        "hosts": { "allow": [need], "allow_private": [] },
        "folders": [], "environment": [], "beyond": []
    });
    json!({ "event": "recorded", "policy": policy })
}

#[test]
fn a_policy_is_printed_as_toml_or_as_json() {
    let osvm = Osvm::new();
    let lines = [ready("s.0123"), vec![recorded()]].concat();
    let (fake, _) = Fake::start(&osvm, [(LAUNCH, Answer::Lines(lines))]);
    let text = osvm.ok(&["mcp", "record", "s", "--seconds", "60"]);
    assert!(
        text.contains("allow = [\n    \"api.example.com:443\",  # refused once\n]\n"),
        "{text}"
    );
    assert_eq!(fake.asked()[0], LAUNCH);
    let json = osvm.ok(&["mcp", "record", "s", "--seconds", "60", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json, recorded()["policy"]);
}

#[test]
fn what_a_server_tried_before_it_failed_is_printed_with_its_failure() {
    let osvm = Osvm::new();
    let failed = json!({ "event": "failed", "error": error("failed", "the server exited") });
    Fake::start(&osvm, [(LAUNCH, Answer::Lines(vec![failed, recorded()]))]);
    let ran = osvm.run(&["mcp", "record", "s"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.contains("api.example.com:443") && ran.stderr.contains("the server exited"));
}

#[test]
fn a_call_that_no_tool_could_take_starts_nothing() {
    let osvm = Osvm::new();
    let (fake, _) = Fake::start(&osvm, []);
    let ran = osvm.run(&["mcp", "record", "s", "--call", "tool", "[1]"]);
    assert_eq!((ran.code, fake.asked().len()), (2, 0), "{}", ran.stderr);
}
