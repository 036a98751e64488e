//! Other people's servers, unchanged, in root file systems that `scripts/fixtures` has built.

use serde_json::json;

use crate::osvm::Osvm;
use crate::rootfs::fixture;

#[test]
fn server_everything_runs_on_node() {
    let osvm = Osvm::new();
    let root = fixture("everything");
    let program = "/app/node_modules/@modelcontextprotocol/server-everything/dist/index.js";
    osvm.ok(&[
        "mcp",
        "add",
        "everything",
        "--image",
        root.to_str().unwrap(),
        "--memory",
        "512",
        "--",
        "/usr/bin/node",
        program,
        "stdio",
    ]);
    let tools = osvm.ok(&["mcp", "tools", "everything", "--json"]);
    assert!(tools.contains("\"echo\""), "{tools}");
    let answer = osvm.call("everything", "echo", &json!({"message": "from a microVM"}));
    assert!(answer.contains("from a microVM"), "{answer}");
    let prompts = osvm.ok(&["mcp", "prompts", "everything", "--json"]);
    assert!(prompts.contains("\"name\""), "{prompts}");
}

#[test]
fn rust_mcp_filesystem_reads_the_files_of_its_image() {
    let osvm = Osvm::new();
    let root = fixture("filesystem");
    osvm.ok(&[
        "mcp",
        "add",
        "files",
        "--image",
        root.to_str().unwrap(),
        "--",
        "/usr/bin/rust-mcp-filesystem",
        "/work",
    ]);
    let tools = osvm.ok(&["mcp", "tools", "files"]);
    assert!(tools.contains("read_text_file"), "{tools}");
    let answer = osvm.call("files", "read_text_file", &json!({"path": "/work/hello.txt"}));
    assert!(answer.contains("The quick brown fox."), "{answer}");
}
