//! Folders among the arguments of a client's servers.

use std::io::{Read, Write};
use std::process::Stdio;

use super::*;
use crate::bundles::read_until;

/// A server with this argument, which is planned and not made.
fn planned(argument: &str, lend: &[&str]) -> (Scene, Value, Ran) {
    let scene = Scene::new("{}");
    fs::create_dir_all(scene.osvm.folder().join("notes/deep")).unwrap();
    fs::create_dir(scene.osvm.folder().join(".ssh")).unwrap();
    let argument = argument.replace("FOLDER", scene.osvm.folder().to_str().unwrap());
    let text =
        json!({ "mcpServers": { "s": { "command": "npx", "args": ["-y", "server", argument] } } });
    fs::write(&scene.file, text.to_string()).unwrap();
    let args = [&["import", "cursor", "--dry-run", "--json"][..], lend].concat();
    let ran = scene.run(&args);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    (scene, report["servers"][0]["folders"].clone(), ran)
}

#[test]
fn a_folder_is_lent_at_its_own_path_when_that_was_said() {
    for argument in ["FOLDER/notes", "~/notes", "${userHome}/notes", "--root=$HOME/notes"] {
        let (scene, folders, _) = planned(argument, &["--lend", "rw"]);
        let path = scene.osvm.folder().join("notes");
        assert_eq!(folders, json!([format!("{0}:{0}:rw", path.display())]), "{argument}");
    }
}

#[test]
fn without_a_word_nothing_is_lent_and_the_flag_is_told() {
    let (scene, folders, ran) = planned("FOLDER/notes", &[]);
    let path = scene.osvm.folder().join("notes");
    assert_eq!(folders, json!([]));
    assert!(
        ran.stderr.contains(&format!("--mount {0}:{0} lends it", path.display())),
        "{}",
        ran.stderr
    );
}

#[test]
fn what_is_too_much_is_never_lent_by_the_way() {
    for (argument, why) in [
        ("/", "it is everything"),
        ("FOLDER", "osvm's own files are in it"),
        ("FOLDER/..", "in it"),
        ("~/.ssh", "keys are in it"),
    ] {
        let (_, folders, ran) = planned(argument, &["--lend", "ro"]);
        assert_eq!(folders, json!([]), "{argument}");
        assert!(ran.stderr.contains(why), "{argument}: {}", ran.stderr);
    }
}

#[test]
fn a_file_is_told_with_its_folder() {
    let (_, folders, ran) = planned("FOLDER/.cursor/mcp.json", &["--lend", "ro"]);
    assert!(
        folders == json!([]) && ran.stderr.contains("is a file of this host"),
        "{}",
        ran.stderr
    );
}

/// By `script`, which gives the command a terminal. The package can't be installed on a base image that is not there, so what
/// was answered shows in whether the folder is told as one that is not lent.
#[test]
fn on_a_terminal_each_folder_is_asked_about_and_only_yes_lends_it() {
    for (answer, is_lent) in [("y\n", true), ("\n", false), ("n\n", false)] {
        let (scene, _, _) = planned("FOLDER/notes", &[]);
        let osvm = env!("CARGO_BIN_EXE_osvm");
        let config = "[builds]\nbase_image = \"/nowhere\"\n";
        fs::create_dir_all(scene.osvm.home()).unwrap();
        fs::write(scene.osvm.home().join("isolation_config.toml"), config).unwrap();
        let line = format!("'{osvm}' mcp import cursor");
        let mut command = scene.osvm.within("script", &["-qefc", &line, "/dev/null"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut seen = String::new();
        let notes = scene.osvm.folder().join("notes").display().to_string();
        read_until(&mut screen, &format!("lend {notes} to s, read-only? [y/N] "), &mut seen);
        keys.write_all(answer.as_bytes()).unwrap();
        screen.read_to_string(&mut seen).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{seen}");
        assert!(seen.contains("/nowhere"), "{seen}");
        let told = seen.contains(&format!("--mount {notes}:{notes} lends it"));
        assert_eq!(told, !is_lent, "{answer:?}: {seen}");
    }
}
