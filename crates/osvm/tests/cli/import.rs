//! `osvm mcp import`: a client's servers become osvm's.

mod connect;
mod folders;
mod restore;
mod rewrite;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::osvm::{Osvm, Ran};
use crate::registry;

const TOKEN: &str = "ghp_AdaLovelace1815AdaLovelace1815Ada1";

/// A home with a client's file.
struct Scene {
    osvm: Osvm,
    file: PathBuf,
    registry: String,
}

/// What is imported is started, as far as it can be.
impl Drop for Scene {
    fn drop(&mut self) {
        self.osvm.run(&["daemon", "--stop"]);
    }
}

impl Scene {
    /// Cursor's file, in which `REGISTRY` is one that has images `a` and `b`.
    fn new(text: &str) -> Self {
        let (osvm, registry) = (Osvm::new(), registry::serve(&["a", "b"]));
        let file = osvm.folder().join(".cursor/mcp.json");
        fs::create_dir(file.parent().unwrap()).unwrap();
        fs::write(&file, text.replace("REGISTRY", &registry)).unwrap();
        Self { osvm, file, registry }
    }

    /// Two servers, one with a secret, and comments.
    fn usual() -> Self {
        let text = r#"{
  // mine
  "mcpServers": {
    "github": {
      "command": "docker", // not any more
      "args": ["run", "-i", "--rm", "-e", "TOKEN", "REGISTRY/a"],
      "env": { "TOKEN": "ghp_AdaLovelace1815AdaLovelace1815Ada1" },
      "alwaysAllow": ["search"],
    },
    "remote": { "url": "https://mcp.example/sse" },
    "plain": { "command": "podman", "args": ["run", "-e", "LOG", "REGISTRY/b", "--all"], "env": { "LOG": "debug" } }
  },
  "other": [1,2 , 3]
}
"#;
        Self::new(text)
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap()
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.osvm.run(&[&["mcp"][..], args].concat())
    }

    /// A run that must end well, and what it printed.
    fn ok(&self, args: &[&str]) -> String {
        self.osvm.ok(&[&["mcp"][..], args].concat())
    }

    fn shown(&self, name: &str) -> Value {
        self.osvm.json(&["mcp", "show", name, "--json"])
    }

    fn kept(&self, secret: &str) -> PathBuf {
        self.osvm.home().join("secrets").join(secret)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// No file of osvm's but the secret's own, and nothing printed, has the value.
fn assert_untold(scene: &Scene, ran: &Ran, secret: &str) {
    assert!(
        !ran.stdout.contains(secret) && !ran.stderr.contains(secret),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    assert!(!scene.osvm.config().exists() || !scene.osvm.read_config().contains(secret));
}

#[test]
fn servers_are_registered_with_image_environment_and_secrets() {
    let scene = Scene::usual();
    let ran = scene.run(&["import", "cursor"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(
        ran.stdout,
        "github: imported; secrets kept in files of their own: TOKEN\n\
         remote: left out: it is a remote server, and runs nothing here\n\
         plain: imported\n"
    );
    assert_untold(&scene, &ran, TOKEN);
    let github = scene.shown("github");
    assert_eq!(github["image"], format!("{}/a:latest", scene.registry));
    assert_eq!(github["secrets"], json!(["TOKEN=file:secrets/github/TOKEN"]));
    let plain = scene.shown("plain");
    assert_eq!(
        plain["command"],
        json!(["docker", "run", format!("{}/b:latest", scene.registry), "--all"])
    );
    assert_eq!(plain["env"], json!({ "LOG": "debug" }));
    assert_eq!(fs::read_to_string(scene.kept("github/TOKEN")).unwrap(), format!("{TOKEN}\n"));
    let modes = ["github/TOKEN", "github", ""].map(|path| mode(&scene.kept(path)));
    assert_eq!(modes, [0o600, 0o700, 0o700]);
    scene.ok(&["remove", "github"]);
    assert!(!scene.kept("github").exists());
}

#[test]
fn what_fails_stops_none_but_itself_and_leaves_nothing() {
    let scene = Scene::new(
        r#"{ "mcpServers": {
            "foo": { "command": "/usr/local/bin/foo", "env": { "KEY": "hunter2hunter2" } },
            "none": { "command": "docker", "args": ["run", "-e", "API_KEY=hunter2hunter2", "REGISTRY/none"] },
            "host": { "command": "docker", "args": ["run", "--network", "host", "REGISTRY/a"] },
            "asks": { "command": "docker", "args": ["run", "REGISTRY/a", "${input:token}"] },
            "wrong": { "command": "docker", "args": "run" },
            "module": { "command": "python3", "args": ["-m", "server"] },
            "good": { "command": "docker", "args": ["run", "REGISTRY/a"] }
        } }"#,
    );
    let ran = scene.run(&["import", "cursor", "--rewrite"]);
    assert_eq!(ran.code, 1);
    let lines: Vec<_> = ran.stdout.lines().collect();
    for (line, words) in lines.iter().zip([
        "foo: not imported: /usr/local/bin/foo is a program of this host",
        "none: not imported: ",
        "host: not imported: docker run has flag --network, which osvm does not follow",
        "asks: not imported: \"${input:token}\" is filled in by the client",
        "wrong: not imported: line 6: args is not an array",
        "module: not imported: nobody said which package has the module server",
        "good: imported",
    ]) {
        assert!(line.starts_with(words), "{line}");
    }
    assert!(ran.stderr.ends_with("error: 6 of 7 servers were not imported\n"), "{}", ran.stderr);
    assert_untold(&scene, &ran, "hunter2");
    let list = scene.osvm.json(&["mcp", "list", "--json"]);
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert!(!scene.kept("").exists());
    let text = scene.text();
    assert_eq!((text.matches("\"mcp\", \"run\"").count(), text.matches("hunter2").count()), (1, 4));
}

#[test]
fn what_is_there_already_is_told_and_what_differs_is_refused() {
    let scene = Scene::usual();
    scene.ok(&["import", "cursor"]);
    let again = scene.ok(&["import", "cursor", "github", "plain"]);
    assert_eq!(again, "github: already there\nplain: already there\n");
    let text = scene.text();
    fs::write(&scene.file, text.replace("ghp_Ada", "ghp_Bob")).unwrap();
    let other = scene.run(&["import", "cursor", "github"]);
    assert_eq!(other.code, 1);
    assert!(other.stdout.contains("hint: osvm mcp remove github"), "{}", other.stdout);
    let kept = fs::read_to_string(scene.kept("github/TOKEN")).unwrap();
    assert_eq!(kept, format!("{TOKEN}\n"));
}

#[test]
fn names_become_names_of_servers_and_must_be_in_the_file() {
    let scene = Scene::new(
        r#"{ "mcpServers": {
            "My Server": { "command": "docker", "args": ["run", "REGISTRY/a"] },
            "My-Server": { "command": "docker", "args": ["run", "REGISTRY/b"] }
        } }"#,
    );
    let ran = scene.run(&["import", "cursor"]);
    assert!(
        ran.stdout.starts_with("My Server (as My-Server): imported\nMy-Server: not imported: "),
        "{}",
        ran.stdout
    );
    let unknown = scene.run(&["import", "cursor", "other"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (3, ""));
}

#[test]
fn what_the_client_fills_in_is_a_secret_of_its_environment() {
    let scene = Scene::new(
        r#"{ "mcpServers": { "s": {
            "command": "docker",
            "args": ["run", "-e", "A", "-e", "B", "-e", "C", "REGISTRY/a"],
            "env": { "A": "${input:a}", "B": "b", "DOCKER_HOST": "unix:///x" }
        } } }"#,
    );
    let ran = scene.run(&["import", "cursor", "--rewrite", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["servers"][0]["from_environment"], json!(["C", "A"]));
    assert_eq!(
        (&report["rewritten"], &report["servers"][0]["outcome"]),
        (&json!(true), &json!("imported"))
    );
    assert!(
        ran.stderr.contains("s: variable DOCKER_HOST is the container tool's own"),
        "{}",
        ran.stderr
    );
    assert_eq!(scene.shown("s")["env"], json!({ "B": "b" }));
    let entry: Value = serde_json::from_str(&scene.text()).unwrap();
    assert_eq!(entry["mcpServers"]["s"]["env"], json!({ "A": "${input:a}" }));
}

#[test]
fn every_clients_sample_is_read() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients");
    let osvm = Osvm::new();
    for (client, imported) in [
        ("claude-desktop", 3),
        ("claude-code", 2),
        ("cursor", 2),
        ("vscode", 2),
        ("windsurf", 1),
        ("zed", 2),
        ("gemini", 0),
        ("mcp", 1),
    ] {
        let file = samples.join(format!("{client}.json"));
        let file = file.to_str().unwrap();
        let ran = osvm.run(&["mcp", "import", file, "--dry-run", "--json"]);
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        let servers = report["servers"].as_array().unwrap();
        let would = servers.iter().filter(|server| server["outcome"] == "imported").count();
        assert_eq!(would, imported, "{client}: {}{}", ran.stdout, ran.stderr);
        let shown = osvm.run(&["mcp", "import", file, "--dry-run", "--rewrite"]);
        let shown = shown.stdout + &shown.stderr;
        for secret in ["ghp_Ada", "BSA-", "figd_", "loom1843", "correct horse"] {
            assert!(!shown.contains(secret), "{client}: {shown}");
        }
    }
    assert!(!osvm.home().exists());
}

#[test]
fn a_client_is_found_where_its_configuration_was_moved_to() {
    let osvm = Osvm::new();
    let folder = osvm.folder().join("moved");
    fs::create_dir_all(folder.join("zed")).unwrap();
    let entry = r#"{"context_servers":{"a":{"command":"npx","args":["-y","a"]}}}"#;
    fs::write(folder.join("zed/settings.json"), entry).unwrap();
    let run = |config: &Path, args: &[&str]| {
        Ran::from(osvm.command(args).env("XDG_CONFIG_HOME", config).output().unwrap())
    };
    let import = ["mcp", "import", "zed", "--dry-run", "--json"];
    let ran = run(&folder, &import);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["servers"][0]["outcome"], "imported", "{report}");
    // What is no path from the root does not count, by the standard, and other clients do not follow it.
    let shown = osvm.folder().join(".config/zed/settings.json").display().to_string();
    assert!(run(Path::new("moved"), &import).stderr.contains(&shown));
    let shown = osvm.folder().join(".cursor/mcp.json").display().to_string();
    assert!(run(&folder, &["mcp", "import", "cursor"]).stderr.contains(&shown));
}

#[test]
fn a_clients_file_that_is_none_is_told() {
    let scene = Scene::usual();
    for (source, words, code) in [
        ("zed", "there is no file", 1),
        ("notepad", "is not one of: claude-desktop", 2),
        ("./.cursor", "is no regular file", 1),
    ] {
        let ran = scene.run(&["import", source]);
        assert!(ran.code == code && ran.stderr.contains(words), "{}", ran.stderr);
    }
    fs::write(&scene.file, "{\n  \"mcpServers\": {,}\n}").unwrap();
    let ran = scene.run(&["import", "cursor"]);
    assert!(
        ran.code == 1 && ran.stderr.contains("mcp.json: line 2: it is no JSON"),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_container_is_added_as_its_readme_says() {
    let scene = Scene::usual();
    let image = format!("{}/a", scene.registry);
    let folder = scene.osvm.folder().to_str().unwrap();
    let lent = format!("{folder}:/data:ro");
    let ran = scene.run(&[
        "add",
        "box",
        "--",
        "docker",
        "run",
        "-i",
        "--rm",
        "-e",
        "TOKEN",
        "-v",
        &lent,
        "--read-only",
        &image,
        "x",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("box: --read-only is not heeded"), "{}", ran.stderr);
    let shown = scene.shown("box");
    assert_eq!((&shown["secrets"], &shown["mount"]), (&json!(["TOKEN"]), &json!([lent])));
    assert_eq!(shown["command"], json!(["docker", "run", format!("{image}:latest"), "x"]));
    let refused = scene.run(&["add", "root", "--", "docker", "run", "--privileged", &image]);
    assert!(refused.code == 2 && refused.stderr.contains("--privileged"), "{}", refused.stderr);
    let file = format!("{}:/x", scene.file.display());
    let ran = scene.run(&["add", "file", "--", "docker", "run", "-v", &file, &image]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(scene.shown("file")["mount"], json!([format!("{file}:rw")]));
}
