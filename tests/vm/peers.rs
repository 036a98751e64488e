//! Other people's programs at both ends of a connection to a granted host: unchanged clients in the guest, unchanged
//! servers in the test's world.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hosts::Scene;
use crate::osvm::{Osvm, patience};
use crate::rootfs::fixture;
use crate::world::{self, SPARE, World};

/// The `fetch` server in a world whose authority it knows, and what else it is launched with.
fn fetcher(world: &World, flags: &[&str]) -> Osvm {
    let osvm = Osvm::new().within(world);
    let image = fixture("tools");
    // The server refuses addresses that are not public, and those of the VM's own resolver are made up.
    let command = "/usr/bin/python3 -m mcp_server_fetch --allow-private-ips";
    let launch = ["mcp", "microvm", "launch", "fetch", "--memory", "512", "--command", command];
    let image = ["--image", image.to_str().unwrap(), "--env", "SSL_CERT_FILE=/tmp/ca.crt"];
    osvm.ok(&[&launch[..], &image, flags].concat());
    let authority = fs::read(world.authority()).unwrap();
    let exec = ["mcp", "microvm", "exec", "fetch", "--", "/bin/sh", "-c", "cat >/tmp/ca.crt"];
    osvm.run_with(&exec, &authority).expect(0);
    osvm
}

#[test]
fn mcp_server_fetch_fetches_from_a_granted_host_and_from_no_other() {
    let Some(world) = World::new() else { return };
    let osvm = fetcher(&world, &["--allow", "api.example.test"]);
    let fetch = |host: &str| {
        let url = json!({ "url": format!("https://{host}/hello") }).to_string();
        osvm.run(&["mcp", "call", "fetch", "fetch", &url])
    };
    let page = fetch("api.example.test").expect(0);
    assert!(page.stdout.contains("hello from the world"), "{page:?}");
    let refused = fetch("other.example.test").expect(5);
    assert!(!refused.stdout.contains("hello from the world"), "{refused:?}");
    let log = osvm.ok(&["mcp", "microvm", "logs", "fetch", "--source", "egress"]);
    let has = |words: [&str; 2]| log.lines().any(|line| words.iter().all(|w| line.contains(w)));
    assert!(has(["allowed", "api.example.test:443"]), "{log}");
    assert!(has(["refused", "other.example.test"]), "{log}");
}

/// A registry of npm's in a world, whose name is granted like any other.
pub(crate) struct Registry {
    server: Child,
    folder: TempDir,
    authority: PathBuf,
    world: u32,
}

pub(crate) const REGISTRY: &str = "https://registry.example.test/";

impl Registry {
    pub(crate) fn new(world: &World) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yaml");
        let [certificate, key] = world.certificate();
        let packages =
            json!({ "**": { "access": "$all", "publish": "$all", "unpublish": "$all" } });
        let settings = json!({
            "storage": folder.path().join("storage"),
            "auth": { "htpasswd": { "file": folder.path().join("users") } },
            "packages": packages,
            "listen": format!("https://{SPARE}:443"),
            "https": { "key": key, "cert": certificate },
            "log": { "type": "stdout", "format": "pretty", "level": "http" },
        });
        fs::write(&config, settings.to_string()).unwrap();
        let program = fixture("registry").join("app/node_modules/verdaccio/bin/verdaccio");
        let mut server = node(world.pid(), &program)
            .arg("--config")
            .arg(&config)
            .env("HOME", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for("http address", server.stdout.take().unwrap());
        Self { server, folder, authority: world.authority(), world: world.pid() }
    }

    /// Publishes a package of one file, and what was put into it before.
    pub(crate) fn publish(&self, name: &str, about: &Value, text: &str) {
        let package = self.folder.path().join(name);
        fs::create_dir_all(&package).unwrap();
        let mut all = json!({ "name": name, "version": "1.0.0" });
        all.as_object_mut().unwrap().extend(about.as_object().unwrap().clone());
        let about = all;
        fs::write(package.join("package.json"), about.to_string()).unwrap();
        fs::write(package.join("index.js"), text).unwrap();
        self.npm(&["publish", package.to_str().unwrap()]);
    }

    /// Puts another file into the package that is published next under that name.
    pub(crate) fn put(&self, name: &str, file: &str, text: &str) {
        let package = self.folder.path().join(name);
        fs::create_dir_all(&package).unwrap();
        fs::write(package.join(file), text).unwrap();
    }

    /// Takes a version back.
    pub(crate) fn unpublish(&self, spec: &str) {
        self.npm(&["unpublish", "--force", spec]);
    }

    fn npm(&self, args: &[&str]) {
        let npm = fixture("tools").join("usr/lib/node_modules/npm/bin/npm-cli.js");
        // It insists on one; the registry does not.
        let token = "--//registry.example.test/:_authToken=nobody";
        let done = node(self.world, &npm)
            .args(args)
            .args(["--registry", REGISTRY, token])
            .env("HOME", self.folder.path())
            .env("NODE_EXTRA_CA_CERTS", &self.authority)
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        self.server.wait().unwrap();
    }
}

/// A script in a world, on the Node of the fixtures.
fn node(world: u32, script: &Path) -> Command {
    let program: PathBuf = fixture("registry").join("usr/bin/node");
    let mut command = world::command(world, &program);
    command.arg(script).stdin(Stdio::null());
    command
}

/// Waits until a program has said so; from then on, nobody listens to it but the pipe is emptied.
fn wait_for(word: &'static str, stdout: std::process::ChildStdout) {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if line.contains(word) {
                // Once is enough.
                let _ = tell.send(());
            }
        }
    });
    told.recv_timeout(patience()).expect("the program is ready");
}

#[test]
fn npm_installs_from_a_registry_that_is_granted() {
    let Some(scene) = Scene::with_tools(&["--memory", "512", "--allow", "registry.example.test"])
    else {
        return;
    };
    let registry = Registry::new(&scene.world);
    registry.publish("words", &json!({}), "module.exports = 'published and installed';");
    let needs = json!({ "dependencies": { "words": "1" } });
    registry.publish("greeting", &needs, "console.log(require('words'));");
    let install = format!(
        "npm install --registry {REGISTRY} --prefix /tmp/app --cafile /tmp/ca.crt --no-audit --no-fund \
         --no-update-notifier greeting && node /tmp/app/node_modules/greeting"
    );
    let installed = scene.sh(&install).expect(0);
    assert!(installed.stdout.contains("published and installed"), "{installed:?}");
    scene.logged(&["allowed", "registry.example.test:443", SPARE]);
}
