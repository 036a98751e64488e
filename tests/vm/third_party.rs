//! Other people's servers, unchanged, in root file systems that `scripts/fixtures` has built.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::osvm::{Ended, Osvm};
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

/// A server of the fixture `tools`, and the folder it is lent.
struct Lent {
    osvm: Osvm,
}

impl Lent {
    fn add(folder: &Path, access: &str, env: &[&str], command: &[&str]) -> Self {
        let root = fixture("tools");
        let osvm = Osvm::stocked(&root);
        let mount = format!("{}:/work:{access}", folder.display());
        let mut add = vec!["mcp", "add", "server", "--image", root.to_str().unwrap()];
        add.extend(["--memory", "512", "--mount", &mount]);
        add.extend(env.iter().flat_map(|variable| ["--env", variable]));
        add.push("--");
        add.extend(command);
        osvm.ok(&add);
        Self { osvm }
    }

    fn call(&self, tool: &str, arguments: &Value) -> Ended {
        self.osvm.run(&["mcp", "call", "server", tool, &arguments.to_string()])
    }

    #[track_caller]
    fn ok(&self, tool: &str, arguments: &Value) -> String {
        self.call(tool, arguments).expect(0).stdout
    }

    #[track_caller]
    fn stop(self) {
        self.osvm.ok(&["mcp", "microvm", "stop", "server"]);
        self.osvm.assert_nothing_left();
    }
}

fn git(repository: &Path, args: &[&str]) -> String {
    let by = ["-c", "user.name=host", "-c", "user.email=host@localhost"];
    let output = Command::new("git").current_dir(repository).args(by).args(args).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn server_git_commits_to_a_repository_of_the_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    git(path, &["init", "--quiet"]);
    fs::write(path.join("file"), "of the host").unwrap();
    let command = ["/usr/bin/python3", "-m", "mcp_server_git", "--repository", "/work"];
    let server = Lent::add(path, "rw", &[], &command);
    let status = server.ok("git_status", &json!({"repo_path": "/work"}));
    assert!(status.contains("Untracked files") && status.contains("file"), "{status}");
    server.ok("git_add", &json!({"repo_path": "/work", "files": ["file"]}));
    server.ok("git_commit", &json!({"repo_path": "/work", "message": "made in a microVM"}));
    assert_eq!(git(path, &["log", "--format=%s by %an"]), "made in a microVM by mcp\n");
    assert_eq!(git(path, &["status", "--short"]), "");
    git(path, &["fsck", "--strict"]);
    let owner = fs::metadata(path).unwrap().uid();
    let commit = git(path, &["rev-parse", "HEAD"]);
    let object = path.join(".git/objects").join(&commit[..2]).join(commit[2..].trim());
    assert_eq!(fs::metadata(object).unwrap().uid(), owner);
    server.stop();
}

const NODE_SERVERS: &str = "/usr/lib/node_modules/@modelcontextprotocol";

#[test]
fn server_filesystem_lists_reads_and_writes_a_folder_of_the_hosts() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hello.txt"), "from the host").unwrap();
    let program = format!("{NODE_SERVERS}/server-filesystem/dist/index.js");
    let server = Lent::add(folder.path(), "rw", &[], &["/usr/bin/node", &program, "/work"]);
    let listed = server.ok("list_directory", &json!({"path": "/work"}));
    assert!(listed.contains("[FILE] hello.txt"), "{listed}");
    let text = server.ok("read_text_file", &json!({"path": "/work/hello.txt"}));
    assert!(text.contains("from the host"), "{text}");
    server.ok("write_file", &json!({"path": "/work/new.txt", "content": "from the guest"}));
    server.ok("move_file", &json!({"source": "/work/new.txt", "destination": "/work/moved.txt"}));
    let moved = fs::read_to_string(folder.path().join("moved.txt")).unwrap();
    assert_eq!(moved, "from the guest");
    server.stop();
}

#[test]
fn server_filesystem_writes_nothing_into_a_folder_lent_for_reading() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("hello.txt"), "from the host").unwrap();
    let program = format!("{NODE_SERVERS}/server-filesystem/dist/index.js");
    let server = Lent::add(folder.path(), "ro", &[], &["/usr/bin/node", &program, "/work"]);
    let text = server.ok("read_text_file", &json!({"path": "/work/hello.txt"}));
    assert!(text.contains("from the host"), "{text}");
    for name in ["hello.txt", "new.txt"] {
        let path = format!("/work/{name}");
        let ended = server.call("write_file", &json!({"path": path, "content": "x"}));
        assert_ne!(ended.code, Some(0), "{ended:?}");
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("EROFS"), "{said}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(fs::read(folder.path().join("hello.txt")).unwrap(), b"from the host");
    server.stop();
}

#[test]
fn server_memory_keeps_what_it_knows_in_a_folder_of_the_hosts() {
    let folder = tempfile::tempdir().unwrap();
    let program = format!("{NODE_SERVERS}/server-memory/dist/index.js");
    let env = ["MEMORY_FILE_PATH=/work/memory.jsonl"];
    let server = Lent::add(folder.path(), "rw", &env, &["/usr/bin/node", &program]);
    let entity = json!({"name": "osvm", "entityType": "command", "observations": ["runs servers"]});
    server.ok("create_entities", &json!({"entities": [entity]}));
    let file = fs::read_to_string(folder.path().join("memory.jsonl")).unwrap();
    assert!(file.contains("runs servers"), "{file}");
    server.osvm.ok(&["mcp", "microvm", "stop", "server"]);
    let found = server.ok("search_nodes", &json!({"query": "osvm"}));
    assert!(found.contains("runs servers"), "{found}");
    server.stop();
}
