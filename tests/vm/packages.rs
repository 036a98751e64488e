//! Servers that come as packages of npm, from a registry on the loopback: a real one.

use std::net::SocketAddr;

use serde_json::json;

use crate::forwarder::Forwarder;
use crate::osvm::{Osvm, eventually, interrupt};
use crate::peers::{REGISTRY, Registry};
use crate::world::{self, SPARE, World};

/// A server of MCP in one file: `say` tells its arguments, what its dependency says, what its install script saw, and
/// where it can write: beside its own file, in its dependency, in the runtime.
const SERVER: &str = r#"#!/usr/bin/env node
const fs = require('fs'), path = require('path');
const write = (file) => {
  try { fs.writeFileSync(file, 'kept', { flag: 'a' }); return fs.readFileSync(file, 'utf8').slice(-4); }
  catch (error) { return error.code; }
};
const places = [path.join(__dirname, 'memory.json'), path.join(__dirname, '../words/kept'), process.execPath,
  '/opt/x', '/usr/local/x'];
const told = () => JSON.stringify({
  args: process.argv.slice(2), words: require('words'), uid: process.getuid(), writes: places.map(write),
  installed: fs.readFileSync(path.join(__dirname, 'installed'), 'utf8').trim(),
});
const answers = {
  initialize: (p) => ({ protocolVersion: p.protocolVersion, capabilities: { tools: {} },
    serverInfo: { name: 'greeting', version: '1' } }),
  'tools/list': () => ({ tools: [{ name: 'say', description: 'says', inputSchema: { type: 'object' } }] }),
  'tools/call': () => ({ content: [{ type: 'text', text: told() }] }),
};
require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, params } = JSON.parse(line);
  if (id !== undefined) console.log(JSON.stringify({ jsonrpc: '2.0', id, result: answers[method](params) }));
});
"#;

/// Runs where the package is installed: who it is, whether the host's files are there, and whether another host is.
const SCRIPT: &str = "(id -u; ls /work/main /root/.osvm 2>/dev/null | wc -l; \
    node -e \"fetch('https://api.example.test/hello').then(() => console.log('reached'), () => console.log('refused'))\") \
    >installed";

/// A module of Node's in C.
const ADDON: &str = r#"
#include <node_api.h>
static napi_value init(napi_env env, napi_value exports) {
    napi_value text;
    napi_create_string_utf8(env, "of a dependency that was compiled", NAPI_AUTO_LENGTH, &text);
    return text;
}
NAPI_MODULE(words, init)
"#;

/// A home where the registry of a world is npm's, and what all installs need is there.
fn scene() -> Option<(World, Registry, Osvm)> {
    let world = World::new()?;
    let registry = Registry::new(&world);
    let authority = world.authority();
    let osvm = Osvm::for_packages()
        .within(&world)
        .env("npm_config_registry", REGISTRY)
        .env("NODE_EXTRA_CA_CERTS", authority.to_str().unwrap());
    Some((world, registry, osvm))
}

#[test]
fn a_server_is_added_as_its_readme_says_and_runs() {
    let Some((_world, registry, osvm)) = scene() else { return };
    // Where there is such a file, npm compiles by itself.
    registry.put(
        "words",
        "binding.gyp",
        r#"{ "targets": [{ "target_name": "words", "sources": ["words.c"] }] }"#,
    );
    registry.put("words", "words.c", ADDON);
    registry.publish("words", &json!({}), "module.exports = require('./build/Release/words');");
    let about = json!({
        "dependencies": { "words": "^1" }, "bin": { "greeting": "index.js" }, "scripts": { "install": SCRIPT },
    });
    registry.publish("greeting", &about, SERVER);
    osvm.run(&["mcp", "add", "greeting", "--", "npx", "-y", "greeting@1", "--loud", "/etc"])
        .expect(0)
        .says(&["/etc is a folder of this host", "--mount /etc:/etc"]);
    let said = osvm.call("greeting", "say", &json!({}));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["args"], json!(["--loud", "/etc"]));
    assert_eq!(said["words"], "of a dependency that was compiled");
    let compilers = ["sh", "-c", "command -v cc gcc c++ make node-gyp"];
    let exec = ["mcp", "microvm", "exec", "greeting", "--"];
    assert_eq!(osvm.run(&[&exec[..], &compilers].concat()).stdout, "", "where it runs");
    assert_ne!(said["uid"], 0, "the server has no rights");
    // As servers do that keep what they know beside their program.
    assert_eq!(said["writes"], json!(["kept", "kept", "EACCES", "EACCES", "EACCES"]));
    let installed = said["installed"].as_str().unwrap();
    assert_eq!(installed, "65534\n0\nrefused", "what the install script saw");

    // What is there is not built again, and nobody prunes it.
    let shown = osvm.json(&["image", "build", "npm:greeting@1", "--json"]);
    assert!(shown["used_by"].as_array().unwrap().contains(&json!("greeting")), "{shown}");
    osvm.ok(&["image", "prune"]);
    osvm.ok(&["mcp", "microvm", "stop", "greeting"]);
    osvm.call("greeting", "say", &json!({}));

    a_client_that_started_it_by_itself_starts_osvm_from_now_on(&osvm);
}

fn a_client_that_started_it_by_itself_starts_osvm_from_now_on(osvm: &Osvm) {
    let file = osvm.home().join("mcp.json");
    let server = json!({ "command": "npx", "args": ["-y", "greeting@1", "--imported"] });
    std::fs::write(&file, json!({ "mcpServers": { "theirs": server } }).to_string()).unwrap();
    osvm.ok(&["mcp", "import", file.to_str().unwrap(), "--rewrite"]);
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let entry = &file["mcpServers"]["theirs"];
    assert_eq!(entry["args"], json!(["mcp", "run", "theirs"]), "{entry}");
    // What a client does with its entry.
    let lines = [
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": { "name": "client", "version": "1" } } }),
        json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
        json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": { "name": "say" } }),
    ];
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let ran = osvm.run_with(&["mcp", "run", "theirs"], lines.as_bytes()).expect(0);
    assert!(ran.stdout.contains("--imported"), "{ran:?}");
}

#[test]
fn an_update_is_used_once_it_was_accepted_and_not_before() {
    let Some((_world, registry, osvm)) = scene() else { return };
    let about = json!({ "bin": "index.js", "scripts": { "install": "echo >installed" } });
    let server = SERVER.replace("require('words')", "'first'");
    registry.publish("greeting", &about, &server);
    osvm.ok(&["mcp", "add", "greeting", "--", "npx", "-y", "greeting"]);
    let lock = std::fs::read_to_string(osvm.home().join("osvm.lock")).unwrap();
    assert!(lock.contains("[servers.greeting.tools.say]"), "add has started it: {lock}");
    assert!(lock.contains("npm:greeting") && lock.contains("sha512-"), "{lock}");
    let said = |osvm: &Osvm| {
        let said: serde_json::Value =
            serde_json::from_str(&osvm.call("greeting", "say", &json!({}))).unwrap();
        said["words"].as_str().unwrap().to_owned()
    };

    let server =
        server.replace("'first'", "'second'").replace("'says'", "'says, and tells others'");
    let mut newer = about;
    newer["version"] = json!("1.1.0");
    registry.publish("greeting", &newer, &server);
    let update = osvm.run(&["mcp", "update", "greeting"]).expect(6);
    for shown in ["npm:greeting changed", "+ 1.1.0", "tells others"] {
        assert!(update.stdout.contains(shown), "{shown}: {update:?}");
    }
    osvm.ok(&["mcp", "microvm", "stop", "greeting"]);
    assert_eq!(said(&osvm), "first", "it runs from what was accepted");
    osvm.ok(&["mcp", "accept", "greeting", "--yes"]);
    osvm.ok(&["mcp", "microvm", "stop", "greeting"]);
    assert_eq!(said(&osvm), "second");
}

#[test]
fn a_package_that_can_not_be_installed_is_not_added_and_says_why() {
    let Some((_world, registry, osvm)) = scene() else { return };
    let bin =
        json!({ "bin": "index.js", "scripts": { "install": "echo no compiler here >&2; exit 3" } });
    registry.publish("broken", &bin, SERVER);
    registry.publish("library", &json!({}), "");
    for (package, why) in [
        ("missing-package", "missing-package"),
        ("library@7", "library"),
        ("library", "program"),
        ("broken", "no compiler here"),
    ] {
        let ran = osvm.run(&["mcp", "add", "a", "--", "npx", "-y", package]);
        ran.expect(1).says(&[package.split('@').next().unwrap(), why]);
    }
    assert!(!osvm.ok(&["mcp", "list"]).contains("npx"));
    assert_eq!(layers_of_packages(&osvm), 0);
}

/// Which there are only while an image is put together, or when that failed.
fn layers_of_packages(osvm: &Osvm) -> usize {
    let layers = std::fs::read_dir(osvm.home().join("images/layers")).unwrap().flatten();
    layers.filter(|entry| entry.file_name().to_string_lossy().starts_with("package-")).count()
}

#[test]
fn an_install_that_hangs_can_be_given_up_and_a_registry_that_is_gone_is_named() {
    let Some((_world, registry, osvm)) = scene() else { return };
    let about = json!({ "bin": "index.js", "scripts": { "install": "sleep 100000" } });
    registry.publish("slow", &about, SERVER);
    osvm.daemon_pid();
    let add = osvm.start(&["mcp", "add", "slow", "--", "npx", "-y", "slow"]);
    eventually("it is being installed", || !osvm.vmm_processes().is_empty());
    interrupt(add).expect(130);
    eventually("nothing of it runs", || osvm.vmm_processes().is_empty());
    assert_eq!(layers_of_packages(&osvm), 0);

    drop(registry);
    let add = osvm.run(&["mcp", "add", "slow", "--", "npx", "-y", "slow"]);
    add.expect(1).says(&["registry.example.test"]);
    assert!(!osvm.ok(&["mcp", "list"]).contains("slow"));
    assert_eq!(layers_of_packages(&osvm), 0);
}

#[test]
fn a_registry_that_goes_down_halfway_is_named_and_the_next_try_works() {
    let Some((world, registry, osvm)) = scene() else { return };
    let wire = |port: u16| SocketAddr::new(SPARE.parse().unwrap(), port);
    let wire = Forwarder::within(&world, wire(4443), wire(443));
    let osvm = osvm.env("npm_config_registry", &REGISTRY.replace("test/", "test:4443/"));
    // A program of some MiB, which nothing packs.
    let mut noise = 1_u64;
    let mut letters = || {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'0' + u8::try_from(noise >> 58).unwrap())
    };
    let noise: String = std::iter::repeat_with(&mut letters).take(8 << 20).collect();
    let server = SERVER.replace("require('words')", "'here'");
    let about = json!({ "bin": "index.js", "scripts": { "install": "echo >installed" } });
    registry.publish("greeting", &about, &format!("{server}\n// {noise}\n"));

    let add = ["mcp", "add", "greeting", "--", "npx", "-y", "greeting"];
    wire.cut_after(3 << 20);
    osvm.run(&add).expect(1).says(&["install greeting", "registry.example.test:4443"]);
    assert!(!osvm.ok(&["mcp", "list"]).contains("greeting"));
    assert_eq!(layers_of_packages(&osvm), 0);

    wire.mend();
    osvm.ok(&add);
    assert!(osvm.call("greeting", "say", &json!({})).contains("here"));
}

#[test]
fn a_version_that_was_taken_back_is_not_installed_and_what_is_installed_stays() {
    let Some((_world, registry, osvm)) = scene() else { return };
    let mut about = json!({ "bin": "index.js", "scripts": { "install": "echo >installed" } });
    let server = SERVER.replace("require('words')", "'here'");
    registry.publish("greeting", &about, &server);
    about["version"] = json!("1.1.0");
    registry.publish("greeting", &about, &server);
    osvm.ok(&["mcp", "add", "greeting", "--", "npx", "-y", "greeting@1.1.0"]);
    registry.unpublish("greeting@1.1.0");
    osvm.ok(&["mcp", "microvm", "stop", "greeting"]);
    let none = "has no version that is greeting@1.1.0";
    osvm.run(&["mcp", "update", "greeting"]).expect(1).says(&[none]);
    assert!(osvm.call("greeting", "say", &json!({})).contains("here"));
}

/// Where `npm` has put the programs of packages in front, and where servers and their children look for them.
#[test]
fn a_program_that_is_called_as_one_of_the_image_takes_no_ones_place() {
    let Some((_world, registry, osvm)) = scene() else { return };
    let look = "for one in sh node npm python3; do command -v $one; done; echo here";
    let look = format!("require('child_process').execSync('{look}').toString()");
    let server = SERVER.replace("require('words')", &look);
    let bin = json!({
        "greeting": "index.js", "sh": "index.js", "node": "index.js", "npm": "index.js", "python3": "index.js",
    });
    let about = json!({ "bin": bin, "scripts": { "install": "echo >installed" } });
    registry.publish("greeting", &about, &server);
    osvm.ok(&["mcp", "add", "greeting", "--", "npx", "-y", "greeting"]);
    let said = osvm.call("greeting", "say", &json!({}));
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["words"], "/usr/bin/sh\n/usr/local/bin/node\n/usr/bin/python3\nhere\n");
}

#[test]
fn a_disk_that_is_full_is_told_and_nothing_half_made_is_used_by_the_next_try() {
    let Some((world, registry, osvm)) = scene() else { return };
    let about = json!({ "bin": "index.js", "scripts": { "install": "echo >installed" } });
    registry.publish("greeting", &about, &SERVER.replace("require('words')", "'here'"));
    let add = ["mcp", "add", "greeting", "--", "npx", "-y", "greeting"];
    let images = osvm.home().join("images");
    let in_the_world = |script: &str| {
        let mut shell = world::command(world.pid(), "sh".as_ref());
        assert!(shell.args(["-ec", script]).arg(&images).status().unwrap().success(), "{script}");
    };
    // As it is, with some MiB of room.
    in_the_world(
        "mkdir $0.small; mount -t tmpfs -o size=$(($(du -sm $0 | cut -f1) + 8))m tmpfs $0.small; \
         cp -a $0/. $0.small; mount --bind $0.small $0",
    );
    osvm.run(&add).expect(1).says(&["No space left on device"]);
    assert!(!osvm.ok(&["mcp", "list"]).contains("greeting"));
    // It goes on with what was installed.
    drop(registry);
    in_the_world("mount -o remount,size=4g $0");
    osvm.ok(&add);
    assert_eq!(layers_of_packages(&osvm), 0);
    assert!(osvm.call("greeting", "say", &json!({})).contains("here"));
}
