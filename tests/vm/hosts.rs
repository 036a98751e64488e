//! Hosts that a guest may reach, in a world of the test's own: by name, on the granted port, and no other.

use std::fs;
use std::path::Path;

use crate::osvm::{Ended, Osvm, eventually, patience};
use crate::rootfs::{MY_SERVER, Rootfs, fixture};
use crate::world::World;

/// A VM with a shell and some of other people's programs, in a world.
pub(crate) struct Scene {
    osvm: Osvm,
    pub(crate) world: World,
    _rootfs: Option<Rootfs>,
}

impl Scene {
    /// With `curl`.
    fn new(flags: &[&str]) -> Option<Self> {
        let world = World::new()?;
        let rootfs = Rootfs::with_curl();
        let scene = Self::launch(world, rootfs.path(), flags);
        Some(Self { _rootfs: Some(rootfs), ..scene })
    }

    /// With Python, Node and git as well.
    pub(crate) fn with_tools(flags: &[&str]) -> Option<Self> {
        Some(Self::launch(World::new()?, &fixture("tools"), flags))
    }

    fn launch(world: World, image: &Path, flags: &[&str]) -> Self {
        let osvm = Osvm::new().within(&world);
        let command = format!("/bin/sh -c '{}'", MY_SERVER.replace('\'', r"'\''"));
        let image = image.to_str().unwrap();
        let launch = ["mcp", "microvm", "launch", "shell", "--image", image, "--command", &command];
        osvm.ok(&[&launch[..], flags].concat());
        let scene = Self { osvm, world, _rootfs: None };
        scene.trust();
        scene
    }

    /// Tells the guest of the world's authority.
    fn trust(&self) {
        let authority = fs::read(self.world.authority()).unwrap();
        let exec = ["mcp", "microvm", "exec", "shell", "--", "/bin/sh", "-c", "cat >/tmp/ca.crt"];
        self.osvm.run_with(&exec, &authority).expect(0);
    }

    /// A command in the guest, which knows the authority by the variables that programs read.
    pub(crate) fn sh(&self, script: &str) -> Ended {
        let trust = "export SSL_CERT_FILE=/tmp/ca.crt NODE_EXTRA_CA_CERTS=/tmp/ca.crt \
                     GIT_SSL_CAINFO=/tmp/ca.crt HOME=/tmp PYTHONDONTWRITEBYTECODE=1";
        let script = format!("{trust}; {script}");
        self.osvm.run(&["mcp", "microvm", "exec", "shell", "--", "/bin/sh", "-c", &script])
    }

    fn curl(&self, what: &str) -> Ended {
        self.sh(&format!("{} {what}", curl()))
    }

    /// The same without the proxy that the environment names.
    fn curl_straight(&self, what: &str) -> Ended {
        self.curl(&format!("--noproxy '*' {what}"))
    }

    /// A line of the log that has all of these.
    #[track_caller]
    pub(crate) fn logged(&self, words: &[&str]) {
        eventually(&format!("{words:?} in the egress log"), || {
            let log = self.osvm.ok(&["mcp", "microvm", "logs", "shell", "--source", "egress"]);
            log.lines().any(|line| words.iter().all(|word| line.contains(word)))
        });
    }

    #[track_caller]
    fn refused(&self, ended: &Ended) {
        assert_ne!(ended.code, Some(0), "{ended:?}");
    }
}

/// With the world's authority, and as much patience as the test has.
fn curl() -> String {
    let patience = patience().as_secs();
    format!("curl --silent --show-error --max-time {patience} --cacert /tmp/ca.crt")
}

const HELLO: &str = "hello from the world\n";

#[test]
fn a_granted_host_is_reached_and_no_other_host_port_or_address_is() {
    let Some(scene) = Scene::new(&["--allow", "api.example.test"]) else { return };
    for url in ["http://api.example.test/hello", "https://api.example.test/hello"] {
        assert_eq!(scene.curl_straight(url).expect(0).stdout, HELLO);
        assert_eq!(scene.curl(url).expect(0).stdout, HELLO, "by the proxy of the environment");
    }
    scene.logged(&["allowed", "api.example.test:443", "203.0.113.7", "received"]);
    scene.refused(&scene.curl_straight("https://other.example.test/hello"));
    scene.logged(&["refused", "other.example.test", "--allow other.example.test"]);
    scene.refused(&scene.curl_straight("http://api.example.test:8080/hello"));
    scene.logged(&["refused", "api.example.test:8080", "--allow api.example.test:8080"]);
    scene.refused(&scene.curl("https://other.example.test/hello"));
    scene.refused(&scene.curl_straight("http://203.0.113.7/hello"));
}

#[test]
fn a_call_is_recorded_with_the_hosts_that_its_vm_reached() {
    let Some(world) = World::new() else { return };
    let rootfs = Rootfs::with_curl();
    let urls = "http://api.example.test/hello http://other.example.test/";
    // What the guest refuses by itself is told a moment later.
    let asks = format!("*'\"tools/call\"'*) curl -s {urls} >&2; sleep 1; arguments=");
    let script = MY_SERVER.replace("*'\"tools/call\"'*) arguments=", &asks);
    assert!(script.contains("curl"));
    rootfs.script("bin/server", &script);
    let osvm = Osvm::new().within(&world);
    let launch = ["mcp", "microvm", "launch", "shell", "--image", rootfs.text()];
    osvm.ok(&[&launch[..], &["--command", "/bin/server", "--allow", "api.example.test"]].concat());
    let mut calls = 0;
    eventually("a call's line has a host that was reached and one that was refused", || {
        osvm.ok(&["mcp", "call", "shell", "my-tool", "{}"]);
        calls += 1;
        let found = osvm.json(&["mcp", "audit", "--last", "1", "--json"]);
        let egress = found["calls"][0]["egress"]["hosts"].clone();
        let hosts = egress.as_array().unwrap();
        let has = |host: &str, outcome: &str| {
            hosts.iter().any(|it| it["host"] == host && it["outcome"] == outcome)
        };
        assert!(has("api.example.test", "allowed") && hosts.len() <= 2, "{egress}");
        has("other.example.test", "refused")
    });
    let shown = osvm.ok(&["mcp", "audit", "--last", "1"]);
    assert!(
        shown.contains("api.example.test:80") && shown.contains("other.example.test"),
        "{shown}"
    );
    let whole = format!("{calls} lines follow");
    assert!(osvm.ok(&["mcp", "audit", "--verify"]).starts_with(&whole));
}

#[test]
fn with_tools_programs_that_know_of_no_proxy_reach_a_granted_host() {
    let flags = ["--allow", "api.example.test", "--memory", "512"];
    let Some(scene) = Scene::with_tools(&flags) else { return };
    let url = "https://api.example.test/hello";
    let unset = "unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy";
    let python = format!(
        "{unset}; /usr/bin/python3 -c 'import urllib.request as u; print(u.urlopen(\"{url}\").read().decode())'"
    );
    assert_eq!(scene.sh(&python).expect(0).stdout.trim(), HELLO.trim());
    let node = format!(
        "{unset}; /usr/bin/node -e 'fetch(\"{url}\").then(r => r.text()).then(t => process.stdout.write(t))'"
    );
    assert_eq!(scene.sh(&node).expect(0).stdout, HELLO);
}

#[test]
fn with_tools_requests_and_a_program_of_gos_reach_a_granted_host() {
    let flags = ["--allow", "api.example.test", "--memory", "512"];
    let Some(scene) = Scene::with_tools(&flags) else { return };
    fs::write(scene.world.www().join("told.json"), r#"{"said":"hello"}"#).unwrap();
    let url = "https://api.example.test/told.json";
    let fetch = format!("import requests; print(requests.get(\"{url}\").json()[\"said\"])");
    for proxy in ["", "unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy; "] {
        let python = format!("{proxy}REQUESTS_CA_BUNDLE=/tmp/ca.crt /usr/bin/python3 -c '{fetch}'");
        assert_eq!(scene.sh(&python).expect(0).stdout.trim(), "hello");
        let go = format!("{proxy}gron --monochrome {url}");
        assert!(scene.sh(&go).expect(0).stdout.contains(r#"json.said = "hello";"#));
    }
}

#[test]
fn with_tools_git_clones_over_https_from_a_granted_host() {
    let flags = ["--allow", "api.example.test:443", "--memory", "512"];
    let Some(scene) = Scene::with_tools(&flags) else { return };
    scene.repository("project.git");
    let clone = "git clone --quiet https://api.example.test/project.git /tmp/project && cat /tmp/project/file";
    assert_eq!(scene.sh(clone).expect(0).stdout, "committed\n");
}

impl Scene {
    /// A repository that can be cloned from plain files.
    fn repository(&self, name: &str) {
        let www = self.world.www();
        let script = "set -e; git init --quiet -b main work; cd work; echo committed >file; git add file; \
                      git -c user.name=a -c user.email=a@example.test commit --quiet -m first; cd ..; \
                      git clone --quiet --bare work \"$0\"; cd \"$0\"; git update-server-info";
        let made =
            std::process::Command::new("sh").args(["-c", script, name]).current_dir(www).output();
        assert!(made.as_ref().unwrap().status.success(), "{made:?}");
    }
}

#[test]
fn a_name_that_leads_to_a_private_address_is_refused_unless_that_was_meant() {
    let flags = ["--allow", "rebind.example.test", "--allow", "private.example.test"];
    let Some(scene) = Scene::new(&flags) else { return };
    for (name, address) in [("rebind", "127.0.0.1"), ("private", "10.1.2.3")] {
        scene.refused(&scene.curl_straight(&format!("http://{name}.example.test/hello")));
        scene.logged(&["refused", &format!("{name}.example.test:80"), address]);
    }
    scene.logged(&["private.example.test", "--allow-private private.example.test"]);
    let flags = ["--allow-private", "private.example.test", "--allow", "host.osvm.internal:8080"];
    let scene = Scene::new(&flags).unwrap();
    assert_eq!(scene.curl_straight("http://private.example.test/hello").expect(0).stdout, HELLO);
    assert_eq!(scene.curl_straight("http://host.osvm.internal:8080/hello").expect(0).stdout, HELLO);
}

#[test]
fn what_is_asked_for_inside_the_connection_must_be_what_was_granted() {
    let Some(scene) = Scene::new(&["--allow", "api.example.test"]) else { return };
    let fronted = scene.curl_straight(
        "--connect-to other.example.test:443:api.example.test:443 https://other.example.test/hello",
    );
    scene.refused(&fronted);
    scene.logged(&["refused", "api.example.test:443", "other.example.test"]);
    let host = scene
        .curl_straight("--fail --header 'Host: other.example.test' http://api.example.test/hello");
    scene.refused(&host);
    let plain = scene.curl_straight("http://api.example.test:443/hello");
    scene.refused(&plain);
}

#[test]
fn large_bodies_pass_both_ways_whole() {
    let Some(scene) = Scene::new(&["--allow", "api.example.test"]) else { return };
    let down = scene.curl_straight("https://api.example.test/big | wc -c").expect(0);
    assert_eq!(down.stdout.trim(), (32 << 20).to_string());
    let up = format!(
        "head -c 5000000 /dev/urandom >/tmp/body; \
         {} --data-binary @/tmp/body https://api.example.test/echo >/tmp/back; \
         cmp /tmp/body /tmp/back && echo same",
        curl()
    );
    assert_eq!(scene.sh(&up).expect(0).stdout, "same\n");
}

#[test]
fn connections_go_on_after_the_daemon_has_been_replaced() {
    let Some(scene) = Scene::new(&["--allow", "api.example.test"]) else { return };
    scene.osvm.crash_daemon();
    assert_eq!(scene.curl_straight("https://api.example.test/hello").expect(0).stdout, HELLO);
    scene.logged(&["allowed", "api.example.test:443"]);
    scene.osvm.ok(&["mcp", "microvm", "stop", "shell"]);
    scene.osvm.assert_nothing_left();
}

#[test]
fn a_tool_with_hosts_of_its_own_reaches_those_in_a_vm_of_its_own() {
    let osvm = Osvm::with_config(
        "[[servers]]\nid = \"demo\"\nallow = [\"a.example\"]\n\
         [[servers.tools]]\nname = \"read_file\"\nallow = []\n",
    );
    let hosts = r#"{"path":"/etc/resolv.conf"}"#;
    osvm.run(&["mcp", "call", "demo", "read_file", hosts]).expect(5);
    let variable = osvm.call("demo", "env", &serde_json::json!({ "name": "HTTPS_PROXY" }));
    assert!(variable.contains("127.0.0.1"), "{variable}");
}

#[test]
fn a_grant_that_was_taken_back_is_gone_with_the_next_call() {
    let server = "[[servers]]\nid = \"demo\"\n";
    let osvm = Osvm::with_config(&format!("{server}allow = [\"a.example\"]\n"));
    let proxy = r#"{"name":"HTTPS_PROXY"}"#;
    osvm.ok(&["mcp", "call", "demo", "env", proxy]);
    assert_eq!(osvm.vm("demo")["hosts"]["allow"][0], "a.example");
    osvm.write_config(server);
    osvm.run(&["mcp", "call", "demo", "env", proxy]).expect(5);
    assert!(osvm.vm("demo")["hosts"]["allow"].as_array().is_none_or(Vec::is_empty));
}
