//! `--rewrite`: the client starts osvm.

use std::os::unix::fs::symlink;

use super::*;

/// The text as it is rewritten.
fn rewritten(text: &str) -> String {
    let osvm = env!("CARGO_BIN_EXE_osvm");
    let start = text.find("[\"run\", \"-i\"").unwrap();
    let end = text.find("      \"alwaysAllow\"").unwrap();
    let github = "[\"mcp\", \"run\", \"github\"],\n";
    let text = text[..start].to_owned() + github + &text[end..];
    let plain = text.find("[\"run\", \"-e\", \"LOG\"").unwrap();
    let end = plain + text[plain..].find(" }\n  },").unwrap();
    let text = text[..plain].to_owned() + "[\"mcp\", \"run\", \"plain\"]" + &text[end..];
    text.replace("\"docker\"", &format!("\"{osvm}\"")).replace("\"podman\"", &format!("\"{osvm}\""))
}

fn backups(scene: &Scene) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(scene.osvm.home().join("backups"))
        .map(|list| list.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    paths.sort();
    paths
}

#[test]
fn the_client_starts_osvm_and_every_other_byte_stays() {
    let scene = Scene::usual();
    let before = scene.text();
    fs::set_permissions(&scene.file, fs::Permissions::from_mode(0o640)).unwrap();
    let ran = scene.run(&["import", "cursor", "--rewrite"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("OSVM_HOME is set here"), "{}", ran.stderr);
    assert_eq!(scene.text(), rewritten(&before));
    assert_eq!(mode(&scene.file), 0o640);
    let [record, original] = &backups(&scene)[..] else { panic!("{:?}", backups(&scene)) };
    assert_eq!(fs::read_to_string(original).unwrap(), before);
    assert_eq!(
        (mode(record), mode(original), mode(original.parent().unwrap())),
        (0o600, 0o600, 0o700)
    );
    let record: Value = serde_json::from_str(&fs::read_to_string(record).unwrap()).unwrap();
    assert_eq!((&record["version"], &record["file"]), (&json!(1), &json!(scene.file)));
    let again = scene.ok(&["import", "cursor", "--rewrite"]);
    assert!(again.contains("github: left out: osvm runs it already\n"), "{again}");
    assert_eq!((scene.text(), backups(&scene).len()), (rewritten(&before), 2));
}

#[test]
fn servers_that_are_there_already_are_rewritten_too() {
    let scene = Scene::usual();
    let before = scene.text();
    scene.ok(&["import", "cursor"]);
    assert_eq!(scene.text(), before);
    scene.ok(&["import", "cursor", "--rewrite"]);
    assert_eq!(scene.text(), rewritten(&before));
}

#[test]
fn a_dry_run_shows_the_difference_without_secrets_and_does_nothing() {
    let scene = Scene::usual();
    let before = scene.text();
    let ran = scene.run(&["import", "cursor", "--rewrite", "--dry-run"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("github: would be imported"), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("\n-      \"env\": { \"TOKEN\": \"(hidden)\" },\n"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("+      \"args\": [\"mcp\", \"run\", \"github\"],\n"),
        "{}",
        ran.stdout
    );
    assert_untold(&scene, &ran, TOKEN);
    assert_eq!(scene.text(), before);
    assert!(!scene.osvm.home().exists());
}

#[test]
fn a_link_to_the_file_stays_a_link() {
    let scene = Scene::usual();
    let real = scene.osvm.folder().join("dotfiles.json");
    fs::rename(&scene.file, &real).unwrap();
    symlink(&real, &scene.file).unwrap();
    let before = scene.text();
    scene.ok(&["import", "cursor", "--rewrite"]);
    assert!(fs::symlink_metadata(&scene.file).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&real).unwrap(), rewritten(&before));
    scene.ok(&["export", "--restore", real.to_str().unwrap()]);
    assert_eq!(scene.text(), before);
    assert!(fs::symlink_metadata(&scene.file).unwrap().is_symlink());
}
