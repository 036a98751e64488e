//! MCPB bundles of every type, added as a user adds them: what the server then is given, and what it can do with it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::osvm::Osvm;
use crate::wheels::{Index, Wheel};
use crate::world::World;

/// Its one tool tells what the server sees: arguments, files among them, variables, whose it is, a library's words, and
/// whether it can write in its folder.
pub(crate) const PYTHON: &str = r#"#!/usr/bin/python3
import json, os, sys
try:
    from words import WORDS
except ImportError:
    WORDS = None

def told():
    files = {path: open(path).read() for path in sys.argv[1:] if os.path.isfile(path)}
    return {"args": sys.argv[1:], "files": files, "token": os.environ.get("TOKEN"), "level": os.environ.get("LEVEL"),
            "cwd": os.getcwd(), "uid": os.getuid(), "words": WORDS, "writes": os.access(".", os.W_OK)}

ANSWERS = {
    "initialize": lambda p: {"protocolVersion": p["protocolVersion"], "capabilities": {"tools": {}},
                             "serverInfo": {"name": "bundled", "version": "1"}},
    "tools/list": lambda p: {"tools": [{"name": "tell", "inputSchema": {"type": "object"}}]},
    "tools/call": lambda p: {"content": [{"type": "text", "text": json.dumps(told())}]},
}
for line in sys.stdin:
    asked = json.loads(line)
    if "id" in asked:
        result = ANSWERS[asked["method"]](asked.get("params"))
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"#;

/// The same, as far as it is asked for.
pub(crate) const NODE: &str = r"
const words = require('words');
const fs = require('fs');
const writes = () => { fs.writeFileSync(__dirname + '/kept', 'kept'); return fs.existsSync(__dirname + '/kept'); };
const told = () => JSON.stringify({
  args: process.argv.slice(2), token: process.env.TOKEN, words, uid: process.getuid(), writes: writes(),
});
const answers = {
  initialize: (p) => ({ protocolVersion: p.protocolVersion, capabilities: { tools: {} },
    serverInfo: { name: 'bundled', version: '1' } }),
  'tools/list': () => ({ tools: [{ name: 'tell', inputSchema: { type: 'object' } }] }),
  'tools/call': () => ({ content: [{ type: 'text', text: told() }] }),
};
require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line);
  if (id !== undefined) console.log(JSON.stringify({ jsonrpc: '2.0', id, result: answers[method](params) }));
});
";

/// The library that servers of Python bring the words of.
pub(crate) const WORDS: Wheel<'_> = Wheel {
    name: "words",
    version: "1",
    files: &[("words.py", "WORDS = 'of a wheel'\n")],
    scripts: &[],
    yanked: None,
};

const SETTINGS: &str = r#"{
    "token": {"type": "string", "title": "Token", "description": "d", "sensitive": true, "required": true},
    "level": {"type": "number", "title": "Level", "description": "d", "default": 3, "min": 1, "max": 5},
    "list": {"type": "file", "title": "List", "description": "d"},
    "place": {"type": "directory", "title": "Place", "description": "d", "required": true}}"#;

/// A bundle in a folder that goes with it.
struct Bundle(TempDir);

impl Bundle {
    fn new(kind: &str, mcp_config: &Value, settings: &str, files: &[(&str, &str)]) -> Self {
        let settings: Value = serde_json::from_str(settings).unwrap();
        let manifest = json!({
            "manifest_version": "0.4", "name": "bundled", "version": "1.2.3", "description": "d",
            "author": { "name": "a" }, "user_config": settings,
            "server": { "type": kind, "entry_point": files[0].0, "mcp_config": mcp_config },
        });
        let bundle = Self(tempfile::tempdir().unwrap());
        let mut zip = ZipWriter::new(File::create(bundle.path()).unwrap());
        let manifest = manifest.to_string();
        for (name, text) in files.iter().chain([&("manifest.json", manifest.as_str())]) {
            put(&mut zip, name, text);
        }
        zip.finish().unwrap();
        bundle
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("x.mcpb")
    }
}

fn put(zip: &mut ZipWriter<File>, name: &str, text: &str) {
    // As an archive that tells no modes.
    zip.start_file(name, SimpleFileOptions::default()).unwrap();
    zip.write_all(text.as_bytes()).unwrap();
}

fn add<'a>(osvm: &Osvm, bundle: &'a Bundle, flags: &[&'a str]) -> crate::osvm::Ended {
    let image = bundle.path().display().to_string();
    osvm.run(&[&["mcp", "add", "b", "--image", &image], flags].concat())
}

fn tell(osvm: &Osvm) -> Value {
    serde_json::from_str(&osvm.call("b", "tell", &json!({}))).unwrap()
}

#[test]
fn a_bundle_of_python_is_given_its_settings_and_its_secret_stays_in_a_file_of_its_own() {
    let osvm = Osvm::for_packages();
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("note"), "from the host").unwrap();
    let config = json!({
        "command": "python", "args": ["${__dirname}/server/main.py", "${user_config.place}/note", "${user_config.list}", "${HOME}"],
        "env": { "PYTHONPATH": "${__dirname}/server/lib", "TOKEN": "${user_config.token}", "LEVEL": "${user_config.level}" },
    });
    let files = [("server/main.py", PYTHON), ("server/lib/words.py", "WORDS = 'bundled'\n")];
    let bundle = Bundle::new("python", &config, SETTINGS, &files);
    let setting = format!("place={}", place.path().display());
    let other = tempfile::tempdir().unwrap();
    let list = other.path().join("list").display().to_string();
    fs::write(&list, "a file alone").unwrap();
    let file = format!("list={list}");
    let set = ["--set", "token=hunter2", "--set", &setting, "--set", &file];
    let added = add(&osvm, &bundle, &set).expect(0);
    let lent = place.path().to_str().unwrap();
    assert!(added.stdout.contains(&format!("--mount {lent}:{lent}:rw")), "{added:?}");

    let said = tell(&osvm);
    let note = format!("{lent}/note");
    assert_eq!(said["args"], json!([note, list, "/work"]));
    assert_eq!(said["files"], json!({ (note): "from the host", (list): "a file alone" }));
    assert_eq!((&said["token"], &said["level"]), (&json!("hunter2"), &json!("3")));
    assert_eq!((&said["cwd"], &said["words"]), (&json!("/mcpb"), &json!("bundled")));
    assert_ne!(said["uid"], 0);
    assert_eq!(said["writes"], true, "the bundle is its server's");

    let secret = osvm.home().join("secrets/b/TOKEN");
    assert_eq!(fs::read_to_string(&secret).unwrap(), "hunter2\n");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&secret), mode(secret.parent().unwrap())), (0o600, 0o700));
    let shown = osvm.ok(&["mcp", "show", "b"]);
    let written = fs::read_to_string(osvm.home().join("isolation_config.toml")).unwrap();
    for text in [&shown, &written, &added.stdout, &added.stderr] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    assert!(shown.contains("python /mcpb/server/main.py"), "{shown}");
    let image = osvm.json(&["image", "list", "--json"]);
    let origin = format!("{} (bundled 1.2.3)", bundle.path().display());
    assert!(image.as_array().unwrap().iter().any(|i| i["origin"] == origin), "{image}");
    osvm.ok(&["image", "prune"]);
    osvm.ok(&["mcp", "microvm", "stop", "b"]);
    tell(&osvm);
}

#[test]
fn a_bundle_of_node_runs_and_takes_its_secret_from_the_environment() {
    let osvm = Osvm::for_packages().env("TOKEN", "hunter3");
    let config = json!({ "command": "node", "args": ["${__dirname}/index.js"], "env": { "TOKEN": "${user_config.token}" } });
    let files =
        [("index.js", NODE), ("node_modules/words/index.js", "module.exports = 'bundled';")];
    let settings = r#"{"token": {"type": "string", "title": "T", "description": "d", "sensitive": true, "required": true}}"#;
    let bundle = Bundle::new("node", &config, settings, &files);
    add(&osvm, &bundle, &[]).expect(0);
    let said = tell(&osvm);
    assert_eq!((&said["token"], &said["words"]), (&json!("hunter3"), &json!("bundled")));
    assert!(!osvm.home().join("secrets").exists());
}

#[test]
fn a_binary_runs_though_its_archive_tells_no_modes_and_starts_without_being_added() {
    let osvm = Osvm::for_packages();
    let config = json!({ "command": "${__dirname}/bin/other", "platform_overrides": {
        "linux": { "command": "${__dirname}/bin/server", "args": ["--here"] } } });
    let bundle = Bundle::new("binary", &config, "{}", &[("bin/server", PYTHON)]);
    let image = bundle.path().display().to_string();
    osvm.ok(&["mcp", "microvm", "launch", "b", "--image", &image]);
    assert_eq!(osvm.vm("b")["command"], json!(["/mcpb/bin/server", "--here"]));
    osvm.ok(&["mcp", "microvm", "stop", "b"]);
    add(&osvm, &bundle, &[]).expect(0);
    assert_eq!(tell(&osvm)["args"], json!(["--here"]));
}

#[test]
fn what_a_bundle_of_uv_needs_is_installed_in_a_vm_and_nothing_when_it_runs() {
    let Some(world) = World::new() else { return };
    Index::new(&world).publish(&WORDS);
    let osvm = Index::osvm(&world);
    let project = "[project]\nname = 'bundled'\nversion = '1'\nrequires-python = '>=3.9'\ndependencies = ['words==1']\n";
    let files = [("src/main.py", PYTHON), ("pyproject.toml", project)];
    let bundle = Bundle::new("uv", &Value::Null, "{}", &files);
    add(&osvm, &bundle, &[]).expect(0);
    let said = tell(&osvm);
    assert_eq!((&said["words"], &said["writes"]), (&json!("of a wheel"), &json!(true)));

    let wrong = [files[0], ("pyproject.toml", &project.replace("words==1", "missing-package"))];
    osvm.ok(&["mcp", "microvm", "stop", "b"]);
    osvm.ok(&["mcp", "remove", "b"]);
    let ended = add(&osvm, &Bundle::new("uv", &Value::Null, "{}", &wrong), &[]);
    ended.expect(1).says(&["bundled 1.2.3", "missing-package"]);
    let layers = fs::read_dir(osvm.home().join("images/layers")).unwrap().flatten();
    let left = layers.filter(|entry| entry.file_name().to_string_lossy().starts_with("bundle"));
    assert_eq!(left.count(), 0);
}
