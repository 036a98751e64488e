//! `osvm mcp record`: what a server tried, and that the printed policy is what it needed.

use std::fs;
use std::io::{BufRead, BufReader, Write};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::osvm::{Osvm, wait};
use crate::rootfs::{MY_SERVER, Rootfs, fixture};
use crate::world::World;

/// Tries a name on two ports, an address, a folder to read and one to write; its tool tells what came of it.
fn server(folder: &TempDir) -> String {
    let here = folder.path().display();
    let get = "curl --silent --max-time 60 --noproxy '*'";
    let tries = format!(
        "{{ {get} http://api.example.test/hello; {get} http://api.example.test:8080/hello; \
         {get} http://203.0.113.7:8080/hello; cat {here}/in/file; }} >/tmp/found 2>/dev/null\n\
         echo written >{here}/out/file\n\
         [ -n \"$WORLD_TOKEN\" ] || echo \"WORLD_TOKEN is not set\" >&2\n"
    );
    let answer = r#"text=$(tr '\n' ';' </tmp/found)"#;
    let told = MY_SERVER.replace(r#"text=$(printf %s "$arguments" | sed 's/"/\\"/g')"#, answer);
    assert!(told.contains(answer));
    tries + &told
}

fn config(script: &str, policy: &str) -> String {
    // JSON's strings are TOML's.
    let [image, script] = [fixture("tools").to_str().unwrap(), script].map(|text| json!(text));
    format!(
        "[[servers]]\nid = \"curious\"\nimage = {image}\ncommand = [\"/bin/sh\", \"-c\", {script}]\n\
         microvm_config = {{ memory_mb = 512 }}\n{policy}"
    )
}

#[test]
fn the_printed_policy_is_what_the_server_needed() {
    let Some(world) = World::new() else { return };
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    for name in ["in", "out"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("in/file"), "from the host\n").unwrap();
    let script = server(&folder);
    let osvm = Osvm::with_config(&config(&script, "")).within(&world).env("WORLD_TOKEN", "x");
    let recorded = osvm.run(&["mcp", "record", "curious", "--seconds", "1"]).expect(0);
    assert!(!folder.path().join("out/file").exists(), "nothing is granted by it");
    assert!(osvm.vms().is_empty());

    let policy = recorded.stdout;
    let here = folder.path().display();
    for line in [
        "\"203.0.113.7:8080\",",
        "\"api.example.test:80\",",
        "\"api.example.test:8080\",",
        &format!("\"{here}/in:{here}/in:ro\","),
        &format!("\"{here}/out:{here}/out:rw\","),
        "\"WORLD_TOKEN\",",
    ] {
        let is_line = |text: &str| text.trim_start().starts_with(line);
        assert!(policy.lines().any(is_line), "{line} is not in\n{policy}");
    }
    let lines = policy.lines().filter(|line| line.trim_start().starts_with('"'));
    assert_eq!(lines.count(), 6, "{policy}");

    osvm.write_config(&config(&script, &policy));
    let told = osvm.call("curious", "my-tool", &json!({}));
    let hello = "hello from the world;";
    assert_eq!(told.trim(), format!("{hello}{hello}{hello}from the host;"));
    assert_eq!(fs::read_to_string(folder.path().join("out/file")).unwrap(), "written\n");

    let flags = ["--allow", "unused.test", "--call", "my-tool", "{}", "--seconds", "1", "--json"];
    let again = osvm.json(&[&["mcp", "record", "curious"][..], &flags].concat());
    let of = |needs: &Value, key: &str| -> Vec<String> {
        needs
            .as_array()
            .unwrap()
            .iter()
            .map(|need| need[key].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        of(&again["hosts"]["allow"], "rule"),
        ["203.0.113.7:8080", "api.example.test:80", "api.example.test:8080"],
    );
    assert!(of(&again["hosts"]["allow"], "reason").iter().all(|why| why.starts_with("used")));
    let folders = [format!("{here}/in:{here}/in:ro"), format!("{here}/out:{here}/out:rw")];
    assert_eq!(of(&again["folders"], "rule"), folders);
    assert_eq!(again["environment"], json!([]));
    osvm.ok(&["mcp", "microvm", "stop", "--all"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_server_that_does_not_start_is_recorded_too() {
    let osvm = Osvm::new();
    let rootfs = Rootfs::with_server("echo 'fatal: GITHUB_TOKEN is missing' >&2; exit 1");
    let record =
        ["mcp", "record", "broken", "--image", rootfs.text(), "--", "/bin/server", "/data/x"];
    let ended = osvm.run(&record).expect(1);
    assert!(ended.stdout.contains("secrets = [\n    \"GITHUB_TOKEN\","), "{ended:?}");
    assert!(ended.stdout.contains("/data/x"), "{ended:?}");
    ended.says(&["exited with code 1"]);
    osvm.assert_nothing_left();
}

#[test]
fn a_clients_session_is_recorded_and_its_policy_is_on_standard_error() {
    let osvm = Osvm::new();
    osvm.ok(&["mcp", "add", "demo"]);
    let mut client = osvm.start(&["mcp", "run", "demo", "--record"]);
    let mut answers = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut ask = |line: &str| -> String {
        writeln!(client.stdin.as_mut().unwrap(), "{line}").unwrap();
        answers.next().unwrap().unwrap()
    };
    let hello = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"0"}}}"#;
    ask(hello);
    let read = |path: &str| {
        json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": { "name": "read_file", "arguments": { "path": path } } })
    };
    ask(&read("/home/nobody-here/project/a.txt").to_string());
    drop(client.stdin.take());
    let ended = wait(client).expect(0);
    let folder = "/home/nobody-here/project";
    ended.says(&[&format!("# \"{folder}:{folder}:ro\""), "no such folder here"]);
    osvm.assert_nothing_left();
}
