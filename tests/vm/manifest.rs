//! What a server has said of itself once is said without it: no VM starts before one is needed.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;

use serde_json::{Value, json};

use crate::osvm::{Osvm, eventually, wait};
use crate::rootfs::{MY_SERVER, Rootfs};
use crate::run::say;

/// A client of `osvm mcp run`, by lines.
struct Client {
    process: Child,
    lines: Box<dyn Iterator<Item = std::io::Result<String>>>,
}

impl Client {
    fn of(osvm: &Osvm, server: &str) -> Self {
        let mut process = osvm.start(&["mcp", "run", server]);
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines: Box::new(lines) }
    }

    fn line(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }

    fn ask(&mut self, id: u64, method: &str, params: &Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        say(&mut self.process, &request.to_string());
        let answer = self.line();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    /// As clients begin, which then list what there is.
    fn begin(&mut self, capabilities: &Value) -> [Value; 3] {
        let [server, tools] = self.begin_with_tools(capabilities);
        [server, tools, self.ask(2, "prompts/list", &json!({}))]
    }

    /// The same with a server that has tools alone.
    fn begin_with_tools(&mut self, capabilities: &Value) -> [Value; 2] {
        let info = json!({ "name": "test-client", "version": "7" });
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": capabilities, "clientInfo": info });
        let server = self.ask(0, "initialize", &params);
        say(&mut self.process, crate::run::READY);
        [server, self.ask(1, "tools/list", &json!({}))]
    }

    fn end(mut self) {
        drop(self.process.stdin.take());
        assert_eq!(wait(self.process).code, Some(0));
    }
}

/// Until the manifest holds `text`: it is written after the client was answered.
pub(crate) fn kept(osvm: &Osvm, text: &str) {
    let files = || fs::read_dir(osvm.home().join("manifests")).into_iter().flatten().flatten();
    let holds =
        |path| fs::read(path).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(text));
    eventually("the manifest is kept", || files().any(|file| holds(file.path())));
}

#[test]
fn a_client_is_told_what_a_server_has_without_a_vm_until_it_calls_something() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let mut first = Client::of(&osvm, "demo");
    let told = first.begin(&json!({}));
    assert!(told[1]["result"]["tools"].is_array(), "{told:?}");
    first.end();
    kept(&osvm, "prompts/list");
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);

    let mut second = Client::of(&osvm, "demo");
    assert_eq!(second.begin(&json!({})), told);
    assert_eq!(second.ask(3, "ping", &json!({}))["result"], json!({}));
    assert!(osvm.vmm_processes().is_empty() && osvm.vms().is_empty());
    let sum =
        second.ask(4, "tools/call", &json!({ "name": "add", "arguments": { "a": 1, "b": 2 } }));
    assert_eq!(sum["result"]["content"][0]["text"], "3", "{sum}");
    assert_eq!(osvm.vmm_processes().len(), 1);
    second.end();
    osvm.ok(&["mcp", "microvm", "stop", "demo"]);

    // Whoever can do something else may be told something else.
    let mut other = Client::of(&osvm, "demo");
    other.begin(&json!({ "sampling": {} }));
    assert_eq!(osvm.vmm_processes().len(), 1);
    other.end();
}

#[test]
fn a_modern_client_of_a_legacy_server_is_answered_without_a_vm_too() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let who = json!({ "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    } });
    let told = [(); 2].map(|()| {
        let mut client = Client::of(&osvm, "demo");
        let list = client.ask(1, "tools/list", &who);
        let server = client.ask(2, "server/discover", &who);
        client.end();
        kept(&osvm, "tools/list");
        osvm.run(&["mcp", "microvm", "stop", "demo"]);
        [list, server]
    });
    assert!(told[0][0]["result"]["tools"].is_array(), "{told:?}");
    assert_eq!(told[0], told[1]);
    let mut client = Client::of(&osvm, "demo");
    assert_eq!(client.ask(1, "tools/list", &who), told[0][0]);
    assert!(osvm.vmm_processes().is_empty());
    client.end();
}

/// A server `mine` to which a folder is lent, so that it can be another the next time it starts.
fn with_folder(root: &Rootfs, folder: &Path) -> Osvm {
    Osvm::with_config(&format!(
        "[[servers]]\nid = \"mine\"\nimage = \"{}\"\ncommand = [\"/bin/server\"]\nlocked = false\nmount = [\"{}:/work\"]\n",
        root.text(),
        folder.display(),
    ))
}

#[test]
fn a_client_that_was_told_what_is_right_no_more_hears_so_when_its_server_starts() {
    let folder = tempfile::tempdir().unwrap();
    let tools = |name: &str| {
        let list = format!("[{{\"name\":\"{name}\",\"inputSchema\":{{\"type\":\"object\"}}}}]");
        fs::write(folder.path().join("tools"), list).unwrap();
    };
    let script = MY_SERVER.replace(
        r#"{"tools":[{"name":"my-tool","inputSchema":{"type":"object"}}]}"#,
        r#"{"tools":'"$(cat /work/tools)"'}"#,
    );
    assert!(script.contains("/work/tools"));
    let root = Rootfs::with_server(&script);
    let osvm = with_folder(&root, folder.path());
    tools("one");
    let mut first = Client::of(&osvm, "mine");
    let name = |list: &Value| list["result"]["tools"][0]["name"].clone();
    assert_eq!(name(&first.begin_with_tools(&json!({}))[1]), "one");
    first.end();
    kept(&osvm, "tools/list");
    osvm.ok(&["mcp", "microvm", "stop", "mine"]);

    tools("two");
    let mut second = Client::of(&osvm, "mine");
    assert_eq!(name(&second.begin_with_tools(&json!({}))[1]), "one");
    assert!(osvm.vmm_processes().is_empty());
    let call = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "two", "arguments": {} } });
    say(&mut second.process, &call.to_string());
    let both = [second.line(), second.line()];
    let is_note = |line: &&Value| line["method"] == "notifications/tools/list_changed";
    assert_eq!(both.iter().filter(is_note).count(), 1, "{both:?}");
    assert_eq!(name(&second.ask(3, "tools/list", &json!({}))), "two");
    second.end();
    kept(&osvm, "two");
}

#[test]
fn a_server_that_speaks_otherwise_by_now_takes_nobodys_place_and_its_client_is_told_why() {
    let folder = tempfile::tempdir().unwrap();
    let speaks = |revision: &str| fs::write(folder.path().join("revision"), revision).unwrap();
    let script = MY_SERVER.replace(
        r#""protocolVersion":"2025-06-18""#,
        r#""protocolVersion":"'"$(cat /work/revision)"'""#,
    );
    assert!(script.contains("/work/revision"));
    let root = Rootfs::with_server(&script);
    let osvm = with_folder(&root, folder.path());
    speaks("2025-06-18");
    let mut first = Client::of(&osvm, "mine");
    let told = first.begin_with_tools(&json!({}));
    first.end();
    kept(&osvm, "tools/list");
    osvm.ok(&["mcp", "microvm", "stop", "mine"]);

    speaks("2025-03-26");
    let mut second = Client::of(&osvm, "mine");
    assert_eq!(second.begin_with_tools(&json!({})), told);
    assert!(osvm.vmm_processes().is_empty());
    let call = second.ask(3, "tools/call", &json!({ "name": "my-tool", "arguments": {} }));
    let why = call["error"]["message"].as_str().unwrap();
    assert!(why.contains("started anew") && why.contains("2025-03-26"), "{why}");
    second.end();
}
