//! Bundles as `osvm mcp add` takes them: what it asks for, what it writes down, and what it refuses. Their images are
//! put together over a layer that has nothing in it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::osvm::{Osvm, Ran};

/// A home in which bundles become images without the distribution's packages; its daemon ends with it.
struct Scene(Osvm);

impl Scene {
    fn new() -> Self {
        let scene = Self(Osvm::new());
        let layers = scene.0.home().join("images/layers");
        fs::create_dir_all(&layers).unwrap();
        fs::write(layers.join("base-runtime-2"), [0; 1024]).unwrap();
        scene
    }

    /// A bundle of type binary.
    fn bundle(&self, mcp_config: &Value, settings: &Value, more: &Value) -> PathBuf {
        let mut manifest = json!({
            "manifest_version": "0.3", "name": "notes", "version": "1.0", "description": "d", "author": { "name": "a" },
            "display_name": "Notes", "user_config": settings,
            "server": { "type": "binary", "entry_point": "run", "mcp_config": mcp_config },
        });
        manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let path = self.0.folder().join("notes.mcpb");
        let mut zip = ZipWriter::new(File::create(&path).unwrap());
        for (name, text) in [("manifest.json", manifest.to_string()), ("run", String::new())] {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        path
    }

    fn add(&self, flags: &[&str]) -> Ran {
        self.0.run(&[&["mcp", "add", "notes", "--image", "./notes.mcpb"], flags].concat())
    }

    #[track_caller]
    fn refused(&self, code: i32, flags: &[&str], words: &[&str]) {
        let ran = self.add(flags);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{word:?} is not in {}", ran.stderr);
        }
        assert!(!self.0.config().exists() && !self.0.home().join("secrets").exists());
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.0.run(&["daemon", "--stop"]);
    }
}

fn setting(kind: &str, more: &Value) -> Value {
    let mut setting = json!({ "type": kind, "title": "The title", "description": "d" });
    setting.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    setting
}

#[test]
fn what_a_manifest_says_is_written_down_plainly() {
    let scene = Scene::new();
    let config = json!({
        "command": "${__dirname}/run", "args": ["--home=${HOME}", "${user_config.folders}"],
        "env": { "LEVEL": "${user_config.level}", "LOG": "x", "API_TOKEN": "${user_config.token}" },
    });
    let settings = json!({
        "folders": setting("directory", &json!({ "multiple": true, "required": true })),
        "level": setting("number", &json!({ "default": 2, "max": 9 })),
        "token": setting("string", &json!({ "sensitive": true })),
    });
    scene.bundle(&config, &settings, &json!({}));
    let folder = scene.0.folder().display().to_string();
    for name in ["one", "two", "two/inner"] {
        fs::create_dir(scene.0.folder().join(name)).unwrap();
    }
    let folders =
        ["--set", "folders=./one", "--set", "folders=~/two/inner", "--set", "folders=two"];
    let flags = ["--set", "level=9", "--set", "token=hunter2", "--env", "LOG=y"];
    let mount = format!("{folder}/one:{folder}/one:rw");
    let ran = scene.add(&[&folders[..], &flags, &["--mount", &mount]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let shown = scene.0.json(&["mcp", "show", "notes", "--json"]);
    let at = |name: &str| format!("{folder}/{name}");
    assert_eq!(
        shown["command"],
        json!(["/mcpb/run", "--home=/work", at("one"), at("two/inner"), at("two")])
    );
    assert_eq!(shown["env"], json!({ "LEVEL": "9", "LOG": "y" }));
    assert_eq!(shown["name"], "Notes");
    // What the user mounts stays as it is, and what lies in another is not mounted again.
    let two = at("two");
    assert_eq!(shown["mount"], json!([mount, format!("{two}:{two}:ro")]));
    let secret = scene.0.home().join("secrets/notes/API_TOKEN");
    assert_eq!(shown["secrets"], json!(["API_TOKEN=file:secrets/notes/API_TOKEN"]));
    assert_eq!(fs::read_to_string(secret).unwrap(), "hunter2\n");
    let told = format!(
        "keeps secret API_TOKEN\nlends {two} read-only; --mount {two}:{two}:rw lends it to be written\n"
    );
    assert!(ran.stdout.ends_with(&told), "{}", ran.stdout);
    assert!(!(ran.stdout + &ran.stderr + &scene.0.read_config()).contains("hunter2"));
}

#[test]
fn what_is_missing_is_listed_with_its_type_and_how_it_is_given() {
    let scene = Scene::new();
    let settings = json!({
        "api.url": setting("string", &json!({ "required": true })),
        "place": setting("directory", &json!({ "required": true, "default": "${HOME}/Documents" })),
        "level": setting("number", &json!({ "required": true, "default": 2, "max": 9 })),
        "flag": setting("boolean", &json!({})),
    });
    scene.bundle(&json!({ "command": "${__dirname}/run" }), &settings, &json!({}));
    let needs =
        "the bundle notes 1.0 needs api.url (string: The title), place (directory: The title)";
    scene.refused(2, &[], &[needs, "hint: --set api.url=...", "hint: --set place=~/Documents"]);
    let given = ["--set", "api.url=x", "--set", "place=/etc"];
    for (more, why) in [
        ("level=10", "setting level of 10 is outside"),
        ("flag=yes", "setting flag is a boolean, and \"yes\" is none"),
        ("level=1e999", "setting level is a number"),
        ("api.url=y", "setting api.url takes one value, and 2 were given"),
        ("plac=/etc", "has no setting plac"),
        ("level", "--set needs KEY=VALUE"),
    ] {
        scene.refused(2, &[&given[..], &["--set", more]].concat(), &[why]);
    }
    for (place, why) in [
        ("place=/etc/passwd", "setting place is a directory, and /etc/passwd: it is no folder"),
        ("place=./none", "none: No such file or directory"),
        ("place=/", "nothing is mounted over /"),
        ("place=/proc", "nothing is mounted over /proc"),
        ("place=/a:b", "a path with a colon"),
    ] {
        scene.refused(2, &["--set", "api.url=x", "--set", place], &[why]);
    }
}

/// By `script`, which gives the command a terminal.
#[test]
fn what_is_missing_is_asked_for_on_a_terminal_and_a_secret_is_not_shown() {
    let scene = Scene::new();
    let settings = json!({
        "level": setting("number", &json!({ "required": true, "max": 9 })),
        "token": setting("string", &json!({ "required": true, "sensitive": true })),
    });
    let config = json!({ "command": "${__dirname}/run", "env": { "LEVEL": "${user_config.level}", "TOKEN": "${user_config.token}" } });
    scene.bundle(&config, &settings, &json!({}));
    let line = format!("'{}' mcp add notes --image ./notes.mcpb", env!("CARGO_BIN_EXE_osvm"));
    let mut command = scene.0.within("script", &["-qefc", &line, "/dev/null"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut seen = String::new();
    for (question, answer) in [
        ("The title (number): ", "10\n"),
        ("is outside any to 9", ""),
        ("The title (number): ", "7\n"),
        ("The title (secret, not shown): ", "hunter2\n"),
    ] {
        read_until(&mut screen, question, &mut seen);
        keys.write_all(answer.as_bytes()).unwrap();
    }
    screen.read_to_string(&mut seen).unwrap();
    assert!(child.wait().unwrap().success(), "{seen}");
    assert!(!seen.contains("hunter2") && seen.contains("keeps secret TOKEN"), "{seen}");
    assert_eq!(scene.0.json(&["mcp", "show", "notes", "--json"])["env"], json!({ "LEVEL": "7" }));
    let secret = fs::read_to_string(scene.0.home().join("secrets/notes/TOKEN")).unwrap();
    assert_eq!(secret, "hunter2\n");
}

pub(crate) fn read_until(screen: &mut impl Read, words: &str, seen: &mut String) {
    let start = seen.len();
    while !seen[start..].contains(words) {
        let mut byte = [0];
        assert_eq!(screen.read(&mut byte).unwrap(), 1, "{words:?} is not in {seen:?}");
        seen.push(byte[0].into());
    }
}

#[test]
fn a_secret_that_others_in_the_vm_would_see_is_refused_and_never_repeated() {
    let scene = Scene::new();
    let settings = json!({ "token": setting("string", &json!({ "sensitive": true })) });
    let config = json!({ "command": "${__dirname}/run", "args": ["${user_config.token}"] });
    scene.bundle(&config, &settings, &json!({}));
    let why = "setting token is a secret, and its manifest puts it into an argument";
    scene.refused(6, &["--set", "token=hunter2"], &[why]);
    assert!(!scene.add(&["--set", "token=hunter2"]).stderr.contains("hunter2"));
}

#[test]
fn a_secret_that_was_not_given_comes_from_the_environment_or_where_its_flag_says() {
    let settings = |required: bool| json!({ "token": setting("string", &json!({ "sensitive": true, "required": required })) });
    let config =
        json!({ "command": "${__dirname}/run", "env": { "TOKEN": "${user_config.token}" } });
    for (required, flags, want, told) in [
        (
            true,
            &[][..],
            json!(["TOKEN"]),
            "TOKEN comes from the environment, where it is not set; --set token=",
        ),
        (true, &["--secret", "TOKEN=file:/x"], json!(["TOKEN=file:/x"]), ""),
        (false, &[], Value::Null, "TOKEN is not given; --set token="),
    ] {
        let scene = Scene::new();
        scene.bundle(&config, &settings(required), &json!({}));
        let ran = scene.add(flags);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
        assert_eq!(scene.0.json(&["mcp", "show", "notes", "--json"])["secrets"], want);
    }
}

#[test]
fn what_is_no_bundle_for_this_system_is_refused_with_file_reason_and_hint() {
    let scene = Scene::new();
    let config = json!({ "command": "${__dirname}/run" });
    let other = json!({ "compatibility": { "platforms": ["darwin", "win32"] } });
    let path = scene.bundle(&config, &json!({}), &other).display().to_string();
    scene.refused(6, &[], &[&path, "it is for darwin, win32, not for linux"]);
    scene.bundle(&config, &json!({}), &json!({ "manifest_version": "0.9" }));
    scene.refused(1, &[], &[&path, "its version is \"0.9\"", "hint: unzip -p "]);
    fs::write(&path, "no archive").unwrap();
    scene.refused(1, &[], &[&path, "failed to read bundle", "hint: unzip -l "]);
    let mut zip = ZipWriter::new(File::create(&path).unwrap());
    zip.start_file("../../etc/passwd", SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap();
    scene.refused(
        1,
        &[],
        &[&path, "\"../../etc/passwd\" has an empty part, '.' or '..' in its name"],
    );
    fs::remove_file(&path).unwrap();
    scene.refused(1, &[], &[&path, "failed to read bundle: No such file or directory"]);
    let none = scene.0.run(&["mcp", "add", "x", "--set", "a=b", "--", "/bin/server"]);
    assert_eq!(none.code, 2);
    assert!(
        none.stderr.contains("--set is for bundles, and the server is none"),
        "{}",
        none.stderr
    );
}

#[test]
fn what_claims_to_unpack_to_more_than_there_is_room_for_is_refused_before_it_is_unpacked() {
    let scene = Scene::new();
    let path = scene.0.folder().join("notes.mcpb");
    fs::write(&path, claiming("data", 50 << 30)).unwrap();
    let shown = path.display().to_string();
    scene.refused(1, &[], &[&shown, "it unpacks to over 4294967296 bytes", "hint: unzip -l "]);

    let mut zip = ZipWriter::new(File::create(&path).unwrap());
    zip.start_file("zeroes", SimpleFileOptions::default()).unwrap();
    zip.write_all(&vec![0; 32 << 20]).unwrap();
    zip.finish().unwrap();
    scene.refused(1, &[], &[&shown, "it unpacks to over 100 times its size"]);
    let left: Vec<_> = fs::read_dir(scene.0.home().join("images/layers")).unwrap().collect();
    assert_eq!(left.len(), 1, "the distribution's alone: {left:?}");
}

/// A zip whose table says so of its one file, which is empty.
fn claiming(name: &str, size: u64) -> Vec<u8> {
    let length = u16::try_from(name.len()).unwrap().to_le_bytes();
    let (none, unknown) = ([0; 4], [0xff; 4]);
    // Version, flags, method, time and date, checksum; then sizes, of which the record tells that they stand elsewhere.
    let about = [&[45, 0][..], &[0; 4], &[0, 0, 0x21, 0], &none].concat();
    let local =
        [b"PK\x03\x04", &about[..], &none, &none, &length, &[0, 0], name.as_bytes()].concat();
    let elsewhere = [&[1, 0, 8, 0][..], &size.to_le_bytes()].concat();
    let record = [
        b"PK\x01\x02",
        &[45, 3][..],
        &about,
        &none,
        &unknown,
        &length,
        &[12, 0],
        &[0; 6],
        &none,
        &none,
        name.as_bytes(),
        &elsewhere,
    ]
    .concat();
    let at = u32::try_from(local.len()).unwrap().to_le_bytes();
    let size = u32::try_from(record.len()).unwrap().to_le_bytes();
    let end = [b"PK\x05\x06", &none[..], &[1, 0, 1, 0], &size, &at, &[0, 0]].concat();
    [local, record, end].concat()
}
