//! Folders among the arguments of a client's servers.

use super::*;

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
