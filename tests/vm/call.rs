//! `osvm mcp call`, `tools` and friends against the demo server.

use serde_json::json;

use crate::osvm::Osvm;

#[test]
fn a_call_starts_the_vm_and_the_next_one_finds_it() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    assert_eq!(osvm.call("demo", "add", &json!({"a": 2, "b": 40})).trim(), "42");
    let first = osvm.vm("demo");
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "again"})).trim(), "again");
    let second = osvm.vm("demo");
    assert_eq!(first["id"], second["id"]);
    assert_eq!(second["calls"], 2);
    assert_eq!(second["started_by"], "auto");
}

#[test]
fn a_tools_own_error_an_unknown_tool_and_an_unknown_server_have_codes_of_their_own() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    osvm.run(&["mcp", "call", "demo", "fail", r#"{"message":"as told"}"#]).expect(5);
    osvm.run(&["mcp", "call", "demo", "ecko", "{}"]).expect(3).says(&["ecko", "hint", "echo"]);
    osvm.run(&["mcp", "call", "demi", "echo", "{}"]).expect(3).says(&["demi", "hint", "demo"]);
}

#[test]
fn a_call_that_takes_too_long_is_given_up_and_the_server_lives_on() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    osvm.ok(&["mcp", "tools", "demo"]);
    osvm.run(&["mcp", "call", "demo", "sleep", r#"{"ms":600000}"#, "--timeout", "1"]).expect(7);
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "alive"})).trim(), "alive");
}

#[test]
fn tools_are_listed_with_their_definitions_as_the_server_wrote_them() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let tools = osvm.json(&["mcp", "tools", "demo", "--json"]);
    let text = tools.to_string();
    for tool in ["echo", "add", "system_info", "sleep", "allocate", "write_file", "fail"] {
        assert!(text.contains(&format!("\"{tool}\"")), "{tool} is not in {text}");
    }
    osvm.json(&["mcp", "resources", "demo", "--json"]);
    osvm.json(&["mcp", "prompts", "demo", "--json"]);
}

#[test]
fn what_a_server_wrote_is_gone_with_its_vm() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let file = json!({"path": "/tmp/note", "content": "remember"});
    osvm.call("demo", "write_file", &file);
    assert_eq!(osvm.call("demo", "read_file", &json!({"path": "/tmp/note"})).trim(), "remember");
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);
    osvm.run(&["mcp", "call", "demo", "read_file", r#"{"path":"/tmp/note"}"#]).expect(5);
}

#[test]
fn a_server_that_exited_is_started_anew_by_the_next_call() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    osvm.run(&["mcp", "call", "demo", "exit", r#"{"code":3}"#]).expect(1);
    assert_eq!(osvm.call("demo", "echo", &json!({"text": "back"})).trim(), "back");
}

#[test]
fn an_ephemeral_server_has_a_vm_for_each_call_and_none_in_between() {
    let osvm = Osvm::with_config("[[servers]]\nid = \"demo\"\nisolation_mode = \"ephemeral\"\n");
    let boot = |osvm: &Osvm| {
        osvm.json(&["mcp", "call", "demo", "system_info", "--json"])["structuredContent"]["boot_id"]
            .clone()
    };
    let (first, second) = (boot(&osvm), boot(&osvm));
    assert!(first.is_string());
    assert_ne!(first, second);
    crate::osvm::eventually("the last VM is gone", || osvm.vms().is_empty());
    // Clones that wait for further calls.
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_tool_stricter_than_its_server_has_a_vm_of_its_own() {
    let osvm = Osvm::with_config(
        "[[servers]]\nid = \"demo\"\n[[servers.tools]]\nname = \"read_file\"\nisolation = \"ephemeral\"\n",
    );
    osvm.call("demo", "write_file", &json!({"path": "/tmp/note", "content": "remember"}));
    osvm.run(&["mcp", "call", "demo", "read_file", r#"{"path":"/tmp/note"}"#]).expect(5);
}
