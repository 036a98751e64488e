//! The arguments of a call: where they come from, and what is wrong with some.

use std::fs;

use crate::osvm::Osvm;

#[test]
fn arguments_come_from_the_command_line_a_flag_a_file_or_standard_input() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let json = r#"{"text":"hello"}"#;
    let file = osvm.runtime().join("arguments.json");
    fs::write(&file, json).unwrap();
    let from_file = format!("@{}", file.display());
    for args in [vec![json], vec!["--args", json], vec![&from_file]] {
        let command = [&["mcp", "call", "demo", "echo"], args.as_slice()].concat();
        assert_eq!(osvm.ok(&command).trim(), "hello", "{command:?}");
    }
    let piped = osvm.run_with(&["mcp", "call", "demo", "echo", "-"], json.as_bytes());
    assert_eq!(piped.expect(0).stdout.trim(), "hello");
    fs::remove_file(file).unwrap();
}

#[test]
fn arguments_that_are_no_json_object_are_refused_before_any_vm_starts() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    for bad in ["{", r#"{"a":}"#, "[]", "7", "\"text\"", "null", ""] {
        osvm.run(&["mcp", "call", "demo", "echo", bad]).expect(2);
    }
    osvm.run(&["mcp", "call", "demo", "echo", "@/no/such/file"]).expect(1).says(&["/no/such/file"]);
    osvm.assert_nothing_left();
}

#[test]
fn twenty_megabytes_of_arguments_arrive_whole() {
    let osvm =
        Osvm::with_config("[microvm]\ndefault_memory_mb = 512\n[[servers]]\nid = \"demo\"\n");
    let text = "0123456789abcdef".repeat(20 * 1024 * 1024 / 16);
    let arguments = format!(r#"{{"text":"{text}"}}"#);
    let command = ["mcp", "call", "demo", "echo", "-", "--timeout", "600"];
    let ended = osvm.run_with(&command, arguments.as_bytes()).expect(0);
    assert_eq!(ended.stdout.trim().len(), text.len());
    assert!(ended.stdout.trim() == text, "the text came back changed");
}
